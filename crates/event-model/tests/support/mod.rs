//! Valid events of every kind, for property tests.

use std::borrow::Cow;

use event_model::{EventType, ProductEvent, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

/// Any valid event.
pub(crate) fn events() -> impl Strategy<Value = ProductEvent<'static>> {
    (
        any::<u128>().prop_map(Uuid::from_u128),
        (Timestamp::MIN.micros()..=Timestamp::MAX.micros()).prop_map(Timestamp::from_micros),
        prop::sample::select(&EventType::ALL[..]),
        [1..=i32::MAX, 1..=i32::MAX, 1..=i32::MAX],
        [texts(), texts()],
    )
        .prop_map(
            |(event_id, event_timestamp, event_type, [user_id, account_id, product_id], [category, experiment_id])| {
                ProductEvent {
                    event_id,
                    event_timestamp,
                    event_type,
                    user_id,
                    account_id,
                    product_id,
                    category,
                    experiment_id,
                }
            },
        )
}

fn texts() -> impl Strategy<Value = Cow<'static, str>> {
    "[^\\p{Cc}]{1,64}".prop_map(Cow::Owned)
}
