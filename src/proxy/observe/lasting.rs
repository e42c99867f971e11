//! The tasks that must not end, by the names that metrics and logs have for them. Runs none.

/// A task that begins again when it has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastingTask {
    /// Fetches one key set.
    KeySet,
    /// Checks one endpoint.
    HealthCheck,
    /// Begins and ends health checks as endpoints come and go.
    HealthSweep,
    /// Timers, idle connections and the log of one worker.
    Housekeeping,
    /// Samples the process.
    Sampler,
    MemoryBudget,
    /// Takes the connections of the admin interface.
    Admin,
}

impl LastingTask {
    /// In their order.
    pub(crate) const ALL: [Self; 7] = [
        Self::KeySet,
        Self::HealthCheck,
        Self::HealthSweep,
        Self::Housekeeping,
        Self::Sampler,
        Self::MemoryBudget,
        Self::Admin,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::KeySet => "key_set",
            Self::HealthCheck => "health_check",
            Self::HealthSweep => "health_sweep",
            Self::Housekeeping => "housekeeping",
            Self::Sampler => "sampler",
            Self::MemoryBudget => "memory_budget",
            Self::Admin => "admin",
        }
    }
}
