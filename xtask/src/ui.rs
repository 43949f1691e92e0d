//! What people see: steps with progress, and tables.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A step under way: a spinner with its age on a terminal, plain lines elsewhere.
pub struct Step {
    bar: Option<ProgressBar>,
    text: String,
    begun: Instant,
    finished: bool,
}

impl Step {
    /// Announces a step.
    #[must_use]
    pub fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                bar.set_style(style);
            }
            bar.set_message(text.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("... {text}");
        }
        Step { bar, text, begun: Instant::now(), finished: false }
    }

    /// Shows what the step is waiting for.
    pub fn note(&self, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {detail}", self.text));
        }
    }

    /// Ends the step with what came of it.
    pub fn done(mut self, outcome: &str) {
        self.close("ok ", outcome);
    }

    fn close(&mut self, mark: &str, outcome: &str) {
        self.finished = true;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let colon = if outcome.is_empty() { "" } else { ": " };
        eprintln!("{mark} {}{colon}{outcome} ({:.1} s)", self.text, self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.close("!! ", "did not finish");
        }
    }
}

/// A table with a head and columns as wide as they need.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column heads.
    #[must_use]
    pub fn new(head: &[&str]) -> Self {
        Table { rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as lines. Cells that are numbers stand to the right.
    #[must_use]
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let number = cell.chars().next().is_some_and(|first| first.is_ascii_digit())
                    && cell.chars().all(|c| c.is_ascii_digit() || c == '.');
                let padded = if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&padded);
                line.push_str("   ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let mut table = Table::new(&["POD", "REQUESTS"]);
        table.row(["a".to_owned(), "7".to_owned()]);
        table.row(["longer".to_owned(), "1234".to_owned()]);
        assert_eq!(table.render(), "POD      REQUESTS\na               7\nlonger       1234\n");
    }
}
