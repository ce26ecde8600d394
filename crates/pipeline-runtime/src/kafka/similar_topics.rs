//! Topics that a mistyped name may mean.

use rdkafka::config::ClientConfig;
use tokio::task;

use super::topic::fetch_metadata;

/// Maximum number of names in a suggestion.
const NAMES: usize = 3;
/// Maximum number of inserted, deleted or replaced characters in a mistyped name.
const TYPOS: usize = 2;

/// Returns existing topics whose names resemble this one. Empty if the cluster does not answer.
pub async fn similar_topics(config: &ClientConfig, topic: &str) -> Vec<String> {
    let (config, name) = (config.clone(), topic.to_owned());
    let asked = task::spawn_blocking(move || {
        let metadata = fetch_metadata(&config, None).ok()?;
        Some(similar(metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name), &name))
    });
    asked.await.ok().flatten().unwrap_or_default()
}

fn similar<'a>(all: impl Iterator<Item = &'a str>, name: &str) -> Vec<String> {
    let plain =
        |text: &str| -> String { text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase() };
    let wanted = plain(name);
    let distance = |other: &str| distance(&plain(other), &wanted);
    let mut found: Vec<_> = all.filter(|other| *other != name).map(|other| (distance(other), other)).collect();
    // A short name resembles every other one.
    found.retain(|(distance, _)| *distance <= TYPOS.min(wanted.len() / 3));
    found.sort_unstable();
    found.into_iter().take(NAMES).map(|(_, other)| other.to_owned()).collect()
}

/// Returns the edit distance of two words.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_suggests_the_topic() {
        let all = ["product-events", "orders", "product_events_2", "__consumer_offsets", "a"];
        let of = |name: &str| similar(all.into_iter(), name);
        assert_eq!(of("product-event"), ["product-events", "product_events_2"]);
        assert_eq!(of("Product.Events"), ["product-events", "product_events_2"]);
        assert_eq!(of("oders"), ["orders"]);
        assert!(of("b").is_empty() && of("customers").is_empty());
    }
}
