//! An additive fit to a matrix that single wild values do not bend: Tukey's median polish
//! (Exploratory Data Analysis, 1977).
//!
//! In logarithms, what node i sends to node j is explained as overall + row i + column j: how well
//! everybody does, how well i sends and how well j receives. What is left over belongs to the pair.

use crate::stats;

/// More sweeps than any matrix seen needed; the fit is good enough where they end.
const MAX_SWEEPS: usize = 30;

/// Changes smaller than this, in logarithms, are no change.
const SETTLED: f64 = 1e-9;

/// A square matrix with gaps.
pub type Cells = Vec<Vec<Option<f64>>>;

/// What explains a matrix.
#[derive(Debug, Clone)]
pub struct Fit {
    /// What is common to all.
    pub overall: f64,
    /// What a row adds; their median is 0.
    pub rows: Vec<f64>,
    /// What a column adds; their median is 0.
    pub columns: Vec<f64>,
    /// What remains of each cell.
    pub residuals: Cells,
}

impl Fit {
    /// Fits a square matrix. Polishing may begin with rows or with columns, and with few nodes that
    /// matters; the order that leaves less is taken.
    #[must_use]
    pub fn of(cells: &Cells) -> Self {
        let by_rows = Self::polish(cells);
        let by_columns = Self::polish(&transposed(cells)).transposed();
        if by_columns.left_over() < by_rows.left_over() {
            by_columns
        } else {
            by_rows
        }
    }

    fn polish(cells: &Cells) -> Self {
        let nodes = cells.len();
        let mut fit = Self {
            overall: 0.0,
            rows: vec![0.0; nodes],
            columns: vec![0.0; nodes],
            residuals: cells.clone(),
        };
        for _ in 0..MAX_SWEEPS {
            let moved = fit.sweep_rows().max(fit.sweep_columns());
            if moved < SETTLED {
                break;
            }
        }
        fit.centre();
        fit
    }

    /// Moves each row's median from the residuals into the row; returns the largest.
    fn sweep_rows(&mut self) -> f64 {
        let mut moved: f64 = 0.0;
        for (row, effect) in self.residuals.iter_mut().zip(&mut self.rows) {
            let known: Vec<f64> = row.iter().flatten().copied().collect();
            let median = stats::median(&known).unwrap_or(0.0);
            row.iter_mut().flatten().for_each(|value| *value -= median);
            *effect += median;
            moved = moved.max(median.abs());
        }
        moved
    }

    fn sweep_columns(&mut self) -> f64 {
        let mut moved: f64 = 0.0;
        for (column, effect) in self.columns.iter_mut().enumerate() {
            let of_column = self.residuals.iter().filter_map(|row| row[column]);
            let median = stats::median(&of_column.collect::<Vec<_>>()).unwrap_or(0.0);
            let values = self.residuals.iter_mut().map(|row| &mut row[column]);
            values.flatten().for_each(|value| *value -= median);
            *effect += median;
            moved = moved.max(median.abs());
        }
        moved
    }

    /// Moves the medians of rows and columns into what is common to all.
    fn centre(&mut self) {
        for effects in [&mut self.rows, &mut self.columns] {
            let median = stats::median(effects).unwrap_or(0.0);
            effects.iter_mut().for_each(|effect| *effect -= median);
            self.overall += median;
        }
    }

    fn transposed(self) -> Self {
        Self {
            overall: self.overall,
            residuals: transposed(&self.residuals),
            rows: self.columns,
            columns: self.rows,
        }
    }

    fn left_over(&self) -> f64 {
        let residuals = self.residuals.iter().flatten().flatten();
        residuals.map(|residual| residual.abs()).sum()
    }

    /// The standard deviation of the residuals, judged by their median size. A fit by medians makes
    /// about as many residuals nearly 0 as it has free effects; these say nothing of the noise and
    /// are left out (Street, Carroll and Ruppert 1988). `None` if no others are left.
    #[must_use]
    pub fn sigma(&self) -> Option<f64> {
        let residuals = self.residuals.iter().flatten().flatten();
        let mut sizes: Vec<f64> = residuals.map(|residual| residual.abs()).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        let free = 2 * self.rows.len() - 1;
        let telling = sizes.get(free..)?;
        Some(stats::median(telling)? / NORMAL_MAD)
    }
}

/// The median absolute deviation of a standard normal distribution.
pub const NORMAL_MAD: f64 = 0.674_489_750_196_082;

fn transposed(cells: &Cells) -> Cells {
    (0..cells.len())
        .map(|column| cells.iter().map(|row| row[column]).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additive_effects_are_recovered_despite_a_wild_cell() {
        let (rows, columns) = ([0.0, -2.0, 0.1, 0.0, -0.1], [0.0, 0.2, 0.0, -0.2, 0.0]);
        let mut cells: Cells = (0..5)
            .map(|i| {
                (0..5)
                    .map(|j| (i != j).then_some(7.0 + rows[i] + columns[j]))
                    .collect()
            })
            .collect();
        cells[0][3] = Some(-50.0);
        let fit = Fit::of(&cells);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(fit.overall, 7.0), "{}", fit.overall);
        assert!(fit.rows.iter().zip(rows).all(|(&a, b)| close(a, b)));
        assert!(fit.columns.iter().zip(columns).all(|(&a, b)| close(a, b)));
        let wild = fit.residuals[0][3].expect("it is there");
        assert!(close(wild, -56.8), "{wild}");
        assert_eq!(fit.residuals[2][2], None, "gaps stay gaps");
    }

    #[test]
    fn the_noise_is_judged_without_the_residuals_that_the_fit_made_zero() {
        let exact: Cells = vec![vec![Some(1.0); 6]; 6];
        assert_eq!(Fit::of(&exact).sigma(), Some(0.0));
        let none: Cells = vec![vec![None; 3]; 3];
        assert_eq!(Fit::of(&none).sigma(), None);
    }
}
