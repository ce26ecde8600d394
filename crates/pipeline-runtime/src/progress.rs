//! What a person sees while a program runs: a bar for bounded work, one live line otherwise.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

static SCREEN: LazyLock<MultiProgress> = LazyLock::new(|| screen(Term::buffered_stderr()));

/// As often as indicatif itself draws.
const DRAWS_PER_SECOND: u8 = 20;

fn screen(term: impl TermLike + IsTerm + 'static) -> MultiProgress {
    let target = if term.is_term() {
        ProgressDrawTarget::term_like_with_hz(Box::new(Unfailing(term)), DRAWS_PER_SECOND)
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
}

trait IsTerm {
    fn is_term(&self) -> bool;
}

impl IsTerm for Term {
    fn is_term(&self) -> bool {
        Self::is_term(self) && std::env::var("TERM").is_ok_and(|term| term != "dumb")
    }
}

/// A terminal that may be gone: indicatif panics at an error of writing.
#[derive(Debug)]
struct Unfailing<T>(T);

impl<T: TermLike> TermLike for Unfailing<T> {
    fn width(&self) -> u16 {
        self.0.width()
    }

    fn height(&self) -> u16 {
        self.0.height()
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        ignored(self.0.move_cursor_up(lines))
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        ignored(self.0.move_cursor_down(lines))
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        ignored(self.0.move_cursor_right(columns))
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        ignored(self.0.move_cursor_left(columns))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        ignored(self.0.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        ignored(self.0.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        ignored(self.0.clear_line())
    }

    fn flush(&self) -> io::Result<()> {
        ignored(self.0.flush())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what the trait returns")]
fn ignored(_: io::Result<()>) -> io::Result<()> {
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that was closed.
    #[derive(Debug)]
    struct Gone;

    impl IsTerm for Gone {
        fn is_term(&self) -> bool {
            true
        }
    }

    fn gone() -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }

    impl TermLike for Gone {
        fn width(&self) -> u16 {
            80
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            gone()
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            gone()
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            gone()
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            gone()
        }

        fn write_line(&self, _: &str) -> io::Result<()> {
            gone()
        }

        fn write_str(&self, _: &str) -> io::Result<()> {
            gone()
        }

        fn clear_line(&self) -> io::Result<()> {
            gone()
        }

        fn flush(&self) -> io::Result<()> {
            gone()
        }
    }

    #[test]
    fn a_terminal_that_is_gone_is_no_panic() {
        let screen = screen(Gone);
        let bar = screen.add(ProgressBar::new(10));
        bar.set_position(3);
        bar.tick();
        assert_eq!(screen.suspend(|| 7), 7);
        bar.finish_and_clear();
    }
}
