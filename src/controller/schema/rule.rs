//! The CEL rules of one node (`x-kubernetes-validations`): compiled and type-checked once, evaluated on just
//! the fields that they look at. A rule that cannot be evaluated refuses its object.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube_cel::cel::common::ast::{ComprehensionExpr, Expr};
use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, IdedExpr, Program, Value as Cel};
use serde::Deserialize;
use serde_json::Value;

use super::node::Shape;
use super::verdicts::{self, Dial, Sight, Verdicts};

/// All rules of a node and what of its value they need.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    needs: Needs,
    /// Where the rules see little enough to remember every answer.
    verdicts: Option<Verdicts>,
}

struct Rule {
    program: Program,
    message: String,
    remedy: String,
    /// What is said where the evaluation itself fails.
    failure: String,
}

/// A rule as it stands in a definition. What it does not name here is not supported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    rule: String,
    message: String,
}

/// The part of a value that rules look at. Everything else is left out of the conversion, which is most of
/// it.
#[derive(Default)]
struct Needs {
    /// The value of a scalar; otherwise only whether the field is there.
    value: bool,
    /// Fields of an object, by name.
    fields: BTreeMap<String, Field>,
    /// The elements of a list.
    items: Option<Box<Needs>>,
}

struct Field {
    /// The name in expressions, where some are reserved.
    key: Key,
    needs: Needs,
}

impl Rules {
    /// Compiles the rules that a node of this shape holds.
    pub(super) fn compile(written: &Value, shape: &Shape) -> Result<Self, String> {
        let written: Vec<Written> = Vec::deserialize(written).map_err(|error| format!("a rule: {error}"))?;
        let mut compiled = Self::default();
        for Written { rule, message } in written {
            let program = Program::compile(&rule).map_err(|error| format!("{rule}: {error}"))?;
            let variables = vec![("self", Place { steps: Vec::new(), shape })];
            let mut reader = Reader { needs: &mut compiled.needs, variables, results: Vec::new() };
            reader.read(program.expression()).map_err(|error| format!("{rule}: {error}"))?;
            let (message, remedy) = message.split_once("; ").unwrap_or((&message, ""));
            compiled.rules.push(Rule {
                program,
                message: message.to_owned(),
                remedy: remedy.to_owned(),
                failure: format!("the rule {rule} could not be evaluated"),
            });
        }
        compiled.verdicts = compiled.needs.dials(shape).and_then(Verdicts::new);
        Ok(compiled)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Message and remedy of each rule that does not hold. The value has the structure that the schema asks
    /// for.
    pub(super) fn broken(&self, value: &Value, context: &Context<'static>) -> Vec<(&str, &str)> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let verdict = self.verdicts.as_ref().and_then(|verdicts| verdicts.of(value));
        if verdicts::known(verdict) {
            return Vec::new();
        }
        let mut scope = context.new_inner_scope();
        scope.add_variable_from_value("self", self.needs.take(value));
        let mut broken = Vec::new();
        for rule in &self.rules {
            match rule.program.execute(&scope) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => broken.push((rule.message.as_str(), rule.remedy.as_str())),
                Ok(_) | Err(_) => broken.push((rule.failure.as_str(), rule.message.as_str())),
            }
        }
        if broken.is_empty() {
            verdicts::remember(verdict);
        }
        broken
    }
}

impl Needs {
    fn take(&self, value: &Value) -> Cel {
        match value {
            Value::Object(fields) if !self.fields.is_empty() => {
                let mut map = HashMap::with_capacity(self.fields.len());
                for (name, field) in &self.fields {
                    if let Some(value) = fields.get(name) {
                        map.insert(field.key.clone(), field.needs.take(value));
                    }
                }
                Cel::Map(Map { map: Arc::new(map) })
            }
            Value::Array(elements) => match &self.items {
                Some(items) => {
                    Cel::List(Arc::new(elements.iter().map(|element| items.take(element)).collect()))
                }
                None => Cel::Bool(true),
            },
            Value::String(text) if self.value => Cel::String(Arc::new(text.clone())),
            Value::Bool(value) if self.value => Cel::Bool(*value),
            Value::Number(number) if self.value => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Cel::Int(number),
                (None, Some(number)) => Cel::UInt(number),
                (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Null if self.value => Cel::Null,
            // Only its presence is asked for.
            Value::Object(_) | Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Null => {
                Cel::Bool(true)
            }
        }
    }

    /// What can be seen of each field; `None`: more than presence and choices.
    fn dials(&self, shape: &Shape) -> Option<Vec<Dial>> {
        let Shape::Object { properties, .. } = shape else {
            return None;
        };
        let dial = |(name, field): (&String, &Field)| {
            let sight = match (&field.needs, &properties.get(name)?.shape) {
                (needs, _) if needs.items.is_some() || !needs.fields.is_empty() => return None,
                (needs, _) if !needs.value => Sight::Presence,
                (_, Shape::Boolean) => Sight::Boolean,
                (_, Shape::Text(text)) if !text.choices.is_empty() => Sight::Choice(text.choices.clone()),
                (
                    _,
                    Shape::Object { .. }
                    | Shape::Map { .. }
                    | Shape::List { .. }
                    | Shape::Text(_)
                    | Shape::Integer(_)
                    | Shape::IntOrString(..),
                ) => return None,
            };
            Some(Dial { name: name.clone(), sight })
        };
        self.fields.iter().map(dial).collect()
    }

    fn at(&mut self, steps: &[Step]) -> &mut Self {
        match steps.split_first() {
            None => self,
            Some((Step::Field(name), rest)) => {
                let field = self.fields.entry(name.clone()).or_insert_with(|| Field {
                    key: Key::String(Arc::new(escaped(name))),
                    needs: Self::default(),
                });
                field.needs.at(rest)
            }
            Some((Step::Item, rest)) => self.items.get_or_insert_default().at(rest),
        }
    }
}

/// A value that an expression names, seen from `self`.
#[derive(Clone)]
struct Place<'s> {
    steps: Vec<Step>,
    shape: &'s Shape,
}

#[derive(Clone)]
enum Step {
    Field(String),
    Item,
}

/// Reads an expression for what it needs. Refuses what names a field that the schema does not have, as the
/// API server's type check does, and what takes an object as a whole, which `Needs` could not serve.
struct Reader<'n, 's, 'e> {
    needs: &'n mut Needs,
    variables: Vec<(&'e str, Place<'s>)>,
    /// Accumulators of the macros around the expression.
    results: Vec<&'e str>,
}

impl<'s, 'e> Reader<'_, 's, 'e> {
    fn read(&mut self, expression: &'e IdedExpr) -> Result<(), String> {
        match &expression.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if self.results.contains(&name.as_str()) => Ok(()),
            Expr::Select(select) if select.test => {
                let place = self.field(&select.operand, &select.field)?;
                self.needs.at(&place.steps);
                Ok(())
            }
            Expr::Ident(_) | Expr::Select(_) => {
                let place = self.place(expression)?;
                match place.shape {
                    Shape::Object { .. } | Shape::Map { .. } | Shape::List { .. } => {
                        Err("takes a mapping or a list as a whole".to_owned())
                    }
                    Shape::Text(_) | Shape::Integer(_) | Shape::IntOrString(..) | Shape::Boolean => {
                        self.needs.at(&place.steps).value = true;
                        Ok(())
                    }
                }
            }
            Expr::Call(call) if call.func_name == "size" => {
                let mut operands = call.target.as_deref().into_iter().chain(&call.args);
                operands.try_for_each(|operand| self.elements(operand).map(drop))
            }
            Expr::Call(call) => {
                let mut operands = call.target.as_deref().into_iter().chain(&call.args);
                operands.try_for_each(|operand| self.read(operand))
            }
            // The macro `filter` collects elements so; what comes of them has only a size.
            Expr::List(list) => {
                let mut elements = list.elements.iter();
                elements
                    .try_for_each(|element| if self.is_object(element) { Ok(()) } else { self.read(element) })
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => Err("builds a mapping".to_owned()),
        }
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr) -> Result<(), String> {
        let Some(items) = self.elements(&comprehension.iter_range)? else {
            return Err("iterates over something that is not a list of self".to_owned());
        };
        self.variables.push((&comprehension.iter_var, items));
        self.results.push(&comprehension.accu_var);
        let parts = [
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ];
        let read = parts.into_iter().try_for_each(|part| self.read(part));
        self.variables.pop();
        self.results.pop();
        read
    }

    /// The elements of a list of `self`; `None`: of a list that the expression itself makes.
    fn elements(&mut self, expression: &'e IdedExpr) -> Result<Option<Place<'s>>, String> {
        if !matches!(expression.expr, Expr::Ident(_) | Expr::Select(_)) {
            self.read(expression)?;
            return Ok(None);
        }
        let Place { mut steps, shape } = self.place(expression)?;
        match shape {
            Shape::List { items, .. } => {
                steps.push(Step::Item);
                self.needs.at(&steps);
                Ok(Some(Place { steps, shape: &items.shape }))
            }
            Shape::Text(_) => {
                self.needs.at(&steps).value = true;
                Ok(None)
            }
            Shape::Object { .. }
            | Shape::Map { .. }
            | Shape::Integer(_)
            | Shape::IntOrString(..)
            | Shape::Boolean => {
                Err("takes the size of something that is neither a list nor a text".to_owned())
            }
        }
    }

    fn is_object(&self, expression: &IdedExpr) -> bool {
        self.place(expression).is_ok_and(|place| matches!(place.shape, Shape::Object { .. }))
    }

    fn place(&self, expression: &IdedExpr) -> Result<Place<'s>, String> {
        match &expression.expr {
            Expr::Ident(name) => {
                let variable = self.variables.iter().rev().find(|(variable, _)| variable == name);
                variable.map(|(_, place)| place.clone()).ok_or_else(|| format!("{name} is not known"))
            }
            Expr::Select(select) if !select.test => self.field(&select.operand, &select.field),
            Expr::Select(_)
            | Expr::Literal(_)
            | Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Unspecified => Err("takes a field of a computed value".to_owned()),
        }
    }

    fn field(&self, operand: &IdedExpr, field: &str) -> Result<Place<'s>, String> {
        let Place { mut steps, shape } = self.place(operand)?;
        let Shape::Object { properties, .. } = shape else {
            return Err(format!("takes the field {field} of something that is no object"));
        };
        let Some((name, node)) = properties.iter().find(|(name, _)| escaped(name) == field) else {
            return Err(format!("the schema has no field {field} here"));
        };
        steps.push(Step::Field(name.clone()));
        Ok(Place { steps, shape: &node.shape })
    }
}

/// The words that CEL keeps for itself; a field of that name is written `__name__` (Kubernetes, "Escaping").
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A field's name as expressions write it. Names with other characters than letters and digits are not used
/// here.
fn escaped(name: &str) -> String {
    if RESERVED.contains(&name) { format!("__{name}__") } else { name.to_owned() }
}
