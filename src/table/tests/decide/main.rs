//! The table as its users see it: decisions against a naive oracle, each rule of precedence, preflights,
//! explanations and what one compile takes over from the one before.

#[cfg(test)]
mod counting;
#[cfg(test)]
mod explaining;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod precedence;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod property;
#[cfg(test)]
mod recompiling;
#[cfg(test)]
mod support;
