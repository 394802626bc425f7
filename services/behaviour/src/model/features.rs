//! What a minute of a device is measured by.

/// How many features.
pub const FEATURES: usize = 12;

/// A minute of one device, as counted from its flows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Minute {
    /// Flows that it started.
    pub flows: u32,
    /// Distinct addresses that it spoke to.
    pub destinations: u32,
    /// Distinct destination ports.
    pub ports: u32,
    /// Distinct addresses of the own network that it spoke to.
    pub local_peers: u32,
    /// Payload that it sent.
    pub bytes_up: u64,
    /// Payload that it got.
    pub bytes_down: u64,
    /// DNS questions.
    pub dns_queries: u32,
    /// Of these, answered that there is no such name.
    pub nxdomain: u32,
    /// Flows that were refused or not answered.
    pub failed: u32,
    /// How much of the minute is in the site's night, 0 to 1.
    pub night_share: f32,
}

/// One number of a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Feature {
    /// Flows.
    Flows,
    /// Distinct destinations.
    Destinations,
    /// Distinct destination ports.
    Ports,
    /// Distinct peers of the own network.
    LocalPeers,
    /// Bytes sent.
    BytesUp,
    /// Bytes received.
    BytesDown,
    /// Share of the bytes that was sent.
    UpShare,
    /// DNS questions.
    DnsQueries,
    /// Answers that there is no such name.
    NxDomain,
    /// Failed flows.
    Failed,
    /// Share of the flows that failed.
    FailedShare,
    /// Night.
    Night,
}

impl Feature {
    /// All, in the order of [`Vector`].
    pub const ALL: [Self; FEATURES] = [
        Self::Flows,
        Self::Destinations,
        Self::Ports,
        Self::LocalPeers,
        Self::BytesUp,
        Self::BytesDown,
        Self::UpShare,
        Self::DnsQueries,
        Self::NxDomain,
        Self::Failed,
        Self::FailedShare,
        Self::Night,
    ];

    /// Words for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Destinations => "destinations",
            Self::Ports => "ports",
            Self::LocalPeers => "peers inside",
            Self::BytesUp => "bytes sent",
            Self::BytesDown => "bytes received",
            Self::UpShare => "share sent",
            Self::DnsQueries => "DNS questions",
            Self::NxDomain => "names that don't exist",
            Self::Failed => "failed flows",
            Self::FailedShare => "share failed",
            Self::Night => "night",
        }
    }

    /// Shares are between 0 and 1; everything else is a count, taken as its logarithm.
    #[must_use]
    pub fn is_share(self) -> bool {
        matches!(self, Self::UpShare | Self::FailedShare | Self::Night)
    }

    /// The least width of its usual range. A factor of e for counts, a quarter for shares: a device
    /// that does always the same must not be unusual for one flow more.
    pub(super) fn width_min(self) -> f32 {
        if self.is_share() { 0.25 } else { 1.0 }
    }

    /// From the model's scale back to what was counted.
    #[must_use]
    pub fn count(self, scaled: f32) -> f64 {
        let scaled = f64::from(scaled);
        if self.is_share() { scaled.clamp(0.0, 1.0) } else { scaled.clamp(0.0, LN_MAX).exp_m1() }
    }
}

/// ln(1 + 2^64), the largest value of a count on the model's scale.
pub(super) const LN_MAX: f64 = 44.4;

/// A minute on the model's scale: ln(1 + count), or a share.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Vector(pub(super) [f32; FEATURES]);

impl Vector {
    /// Of a minute. Whatever the numbers, all values are finite and between 0 and ln(1 + 2^64).
    #[must_use]
    pub fn of(minute: &Minute) -> Self {
        let count = |value: u32| f64::from(value).ln_1p();
        #[expect(clippy::cast_precision_loss, reason = "only its logarithm matters")]
        let bytes = |value: u64| (value as f64).ln_1p();
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let night = f64::from(minute.night_share);
        let all_bytes = minute.bytes_up.saturating_add(minute.bytes_down);
        let values = [
            count(minute.flows),
            count(minute.destinations),
            count(minute.ports),
            count(minute.local_peers),
            bytes(minute.bytes_up),
            bytes(minute.bytes_down),
            share(minute.bytes_up, all_bytes),
            count(minute.dns_queries),
            count(minute.nxdomain),
            count(minute.failed),
            share(u64::from(minute.failed), u64::from(minute.flows)).min(1.0),
            if night.is_finite() { night.clamp(0.0, 1.0) } else { 0.0 },
        ];
        #[expect(clippy::cast_possible_truncation, reason = "below 45")]
        Self(values.map(|value| value as f32))
    }

    /// The value of one feature.
    #[must_use]
    pub fn get(&self, feature: Feature) -> f32 {
        self.0.get(feature as usize).copied().unwrap_or(0.0)
    }

    pub(super) fn with(mut self, feature: Feature, value: f32) -> Self {
        if let Some(slot) = self.0.get_mut(feature as usize) {
            *slot = value;
        }
        self
    }

    /// Whether it could come from [`Vector::of`].
    pub(super) fn is_sane(&self) -> bool {
        self.0.iter().all(|value| value.is_finite() && (0.0..=45.0).contains(value))
    }
}
