//! The guide: for somebody who has to ship a service with metrics. It is documentation only, and no part of a build.
//!
//! 1. [Naming](naming): a name that is still right in three years, and the same wherever it arrives.
//! 2. [Cardinality](cardinality): how many series there will be, what each costs, and what happens beyond a limit.
//! 3. [Buckets](buckets): which boundaries, or none at all.
//! 4. [Testing](testing): that what should be counted is counted, also when somebody gives up half way.
//! 5. [Operating](operating): the endpoint, what to alert on, and what to do when a metric is missing.
//! 6. [Migrating](migrating): from `prometheus`, `metrics`, `prometheus-client` and Python's prometheus_client.
//!
//! Every program in it is compiled, and nearly all of them are run, when Barograph's own tests run. Files that are named
//! in it are in Barograph's repository.

#![cfg_attr(
    not(feature = "testing"),
    allow(rustdoc::broken_intra_doc_links, reason = "the chapter about testing is there with the test kit")
)]

pub mod naming {
    #![doc = include_str!("guide/naming.md")]
}

pub mod cardinality {
    #![doc = include_str!("guide/cardinality.md")]
}

pub mod buckets {
    #![doc = include_str!("guide/buckets.md")]
}

#[cfg(feature = "testing")]
pub mod testing {
    #![doc = include_str!("guide/testing.md")]
}

pub mod operating {
    #![doc = include_str!("guide/operating.md")]
}

pub mod migrating {
    #![doc = include_str!("guide/migrating.md")]
}
