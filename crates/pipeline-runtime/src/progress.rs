//! Progress on the terminal: a bar for bounded work, a live line otherwise.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

static SCREEN: LazyLock<MultiProgress> = LazyLock::new(|| screen(Term::buffered_stderr()));

/// Maximum redraw rate, the same as indicatif's default.
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

/// A terminal that ignores write errors, which happen when it is closed: indicatif panics on them.
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

/// Runs a function that writes to stderr, with the progress line hidden.
pub fn above<R>(write: impl FnOnce() -> R) -> R {
    SCREEN.suspend(write)
}

/// Progress of one task. Redrawn at most 20 times per second and removed on drop.
pub struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar with rate and remaining time if the length is known, else a live line.
    ///
    /// Draws nothing unless `show` is true.
    #[must_use]
    pub fn new(show: bool, length: Option<u64>, unit: &str) -> Self {
        if !show {
            return Self(ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden()));
        }
        let bar = SCREEN.add(length.map_or_else(ProgressBar::no_length, ProgressBar::new));
        let template = match length {
            Some(_) => {
                format!("{{bar:16.cyan/dim}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} eta {{eta}} {{wide_msg}}")
            }
            None => format!("{{spinner}} {{elapsed}} {{human_pos}} {unit} {{per_sec}} {{wide_msg}}"),
        };
        Self::drawn(bar, &template)
    }

    /// Creates a line with the elapsed time and a message, for work without a known amount.
    ///
    /// Draws nothing unless `show` is true.
    #[must_use]
    pub fn elapsed(show: bool, message: &'static str) -> Self {
        if !show {
            return Self(ProgressBar::hidden());
        }
        let bar = SCREEN.add(ProgressBar::no_length()).with_message(message);
        Self::drawn(bar, "{spinner} {elapsed} {wide_msg}")
    }

    fn drawn(bar: ProgressBar, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Sets the amount of completed work.
    pub fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Sets the total amount of work, for work that grows.
    pub fn set_length(&self, length: u64) {
        self.0.set_length(length);
    }

    /// Sets the message, such as the lag. It is cut at the width of the terminal.
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

    /// A terminal that has been closed.
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
