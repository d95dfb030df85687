//! What calls are told apart by, as every contestant wants it.

use std::array;

use barograph::{AttributeSet, attribute};
use measured::label::{LabelValue, LabelVisitor};
use measured::{FixedCardinalityLabel, LabelGroup};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

attribute! {
    /// Which API was called.
    #[derive(EncodeLabelValue)]
    pub(crate) enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
}
attribute! {
    /// How a call ended.
    #[derive(EncodeLabelValue)]
    pub(crate) enum Status: "status" {
        Success = "success",
        Error = "error",
        Timeout = "timeout",
        RateLimited = "rate_limited",
        Cancelled = "cancelled",
        Refused = "refused",
    }
}

/// The series of an instrument with both: eighteen.
pub(super) const SERIES: usize = <(Api, Status)>::CARDINALITY;

/// Every combination, in the order of its index.
pub(super) fn combinations() -> [(Api, Status); SERIES] {
    array::from_fn(|index| (Api::ALL[index / Status::ALL.len()], Status::ALL[index % Status::ALL.len()]))
}

/// What measured's derive would write, were it to work inside our macro.
macro_rules! measured_label {
    ($($name:ident),+) => {$(
        impl LabelValue for $name {
            fn visit<V: LabelVisitor>(&self, visitor: V) -> V::Output {
                visitor.write_str(self.as_str())
            }
        }

        impl FixedCardinalityLabel for $name {
            fn cardinality() -> usize {
                Self::ALL.len()
            }

            fn encode(&self) -> usize {
                *self as usize
            }

            fn decode(index: usize) -> Self {
                Self::ALL[index]
            }
        }
    )+};
}
measured_label!(Api, Status);

/// Both, as measured and prometheus-client want them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, LabelGroup, EncodeLabelSet)]
#[label(set = LabelsSet)]
pub(super) struct Labels {
    pub(super) api: Api,
    pub(super) status: Status,
}
