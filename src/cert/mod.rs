//! The client certificate for Patroni's health checks: loading the CA, issuing, and deciding whether the one in use stays.
//! Pure but for the randomness of new keys; the time is always an argument.

/// A certificate authority whose key and certificate belong together.
#[derive(Debug, Clone)]
pub struct Ca {}
