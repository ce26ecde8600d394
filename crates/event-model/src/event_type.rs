//! Types of events.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

/// Type of an event: the user's action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Searched the catalogue.
    SearchPerformed,
    /// Clicked on a result of a search.
    ResultClicked,
    /// Looked at a product's page.
    ProductViewed,
    /// Clicked on a recommended product.
    RecommendationClicked,
    /// Sent a request for quotation.
    RfqSent,
}

/// Error returned for a text that is not the name of an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not one of search_performed, result_clicked, product_viewed, recommendation_clicked, rfq_sent")]
pub struct UnknownEventType;

impl EventType {
    /// All event types, in the order of a session.
    pub const ALL: [Self; 5] =
        [Self::SearchPerformed, Self::ResultClicked, Self::ProductViewed, Self::RecommendationClicked, Self::RfqSent];

    /// Returns the name in JSON, PostgreSQL and Parquet.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SearchPerformed => "search_performed",
            Self::ResultClicked => "result_clicked",
            Self::ProductViewed => "product_viewed",
            Self::RecommendationClicked => "recommendation_clicked",
            Self::RfqSent => "rfq_sent",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(UnknownEventType)
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = EventType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an event type")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EventType, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}
