//! Preconditions on generations and metagenerations.
//!
//! <https://cloud.google.com/storage/docs/request-preconditions>

use super::super::failure::Failure;
use super::super::wire::Call;
use super::object::Object;

/// What a call wants with the object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Change,
}

/// The preconditions of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) generation: Option<i64>,
    pub(super) not_generation: Option<i64>,
    pub(super) metageneration: Option<i64>,
    pub(super) not_metageneration: Option<i64>,
}

impl Conditions {
    /// Those of the query; `prefix` is `if` or `ifSource`.
    pub(super) fn of(call: &Call, prefix: &str) -> Result<Self, Failure> {
        Ok(Self {
            generation: call.number(&format!("{prefix}GenerationMatch"))?,
            not_generation: call.number(&format!("{prefix}GenerationNotMatch"))?,
            metageneration: call.number(&format!("{prefix}MetagenerationMatch"))?,
            not_metageneration: call.number(&format!("{prefix}MetagenerationNotMatch"))?,
        })
    }

    /// Those of the XML API.
    ///
    /// <https://cloud.google.com/storage/docs/xml-api/reference-headers#xgoogifgenerationmatch>
    pub(super) fn of_headers(call: &Call) -> Result<Self, Failure> {
        let number = |name: &str| {
            call.header(name)
                .map(|text| text.parse().map_err(|_| Failure::invalid(format!("Invalid {name}."))))
                .transpose()
        };
        Ok(Self {
            generation: number("x-goog-if-generation-match")?,
            not_generation: None,
            metageneration: number("x-goog-if-metageneration-match")?,
            not_metageneration: None,
        })
    }

    /// Checks them. A generation of 0 stands for no live object. A `…NotMatch` that does not hold
    /// is 304 for a read; everything else is 412.
    pub(super) fn check(&self, object: Option<&Object>, purpose: Purpose) -> Result<(), Failure> {
        let generation = object.map_or(0, |object| object.generation);
        let metageneration = object.map_or(0, |object| object.metageneration);
        let met = self.generation.is_none_or(|wanted| wanted == generation)
            && self.metageneration.is_none_or(|wanted| wanted == metageneration);
        if !met {
            return Err(Failure::condition_not_met());
        }
        let changed = self.not_generation.is_none_or(|known| known != generation)
            && self.not_metageneration.is_none_or(|known| known != metageneration);
        match (changed, purpose) {
            (true, _) => Ok(()),
            (false, Purpose::Read) => Err(Failure::not_modified()),
            (false, Purpose::Change) => Err(Failure::condition_not_met()),
        }
    }
}
