//! What a person sees while a program runs: a bar for bounded work, one live line otherwise.

use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Runs a piece of output to stderr with the progress line out of its way.
pub fn above<R>(write: impl FnOnce() -> R) -> R {
    SCREEN.suspend(write)
}

/// The progress of one piece of work. Drawn at most ten times a second; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar with rate and time to go where the length is known, a live line otherwise; nothing at all where it is
    /// not to be shown.
    #[must_use]
    pub fn new(show: bool, length: Option<u64>, unit: &str) -> Self {
        if !show {
            return Self(ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden()));
        }
        let bar = SCREEN.add(length.map_or_else(ProgressBar::no_length, ProgressBar::new));
        let template = match length {
            Some(_) => {
                format!("{{wide_bar:.cyan/dim}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} eta {{eta}} {{msg}}")
            }
            None => format!("{{spinner}} {{elapsed}} {{human_pos}} {unit} {{per_sec}} {{msg}}"),
        };
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// How much is done.
    pub fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// How much there is to do, where that grows.
    pub fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }

    /// What else there is to say, such as the lag. Kept short for narrow terminals.
    pub fn say(&self, message: String) {
        self.0.set_message(message);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        SCREEN.remove(&self.0);
    }
}
