//! Ridge regression in which some coefficients may not be negative.

use nalgebra::{Cholesky, DMatrix, DVector};

/// A linear equation in the units of its columns.
pub(crate) struct Equation {
    /// Value when all columns are zero.
    pub(crate) intercept: f64,
    /// One per column.
    pub(crate) coefficients: Vec<f64>,
}

/// The equations could not be solved: a value in them is not finite.
#[derive(Debug, thiserror::Error)]
#[error("the regression has no solution, because a value in it is not finite")]
pub(crate) struct Unsolvable;

/// Gradients below this, on standardised data, are rounding.
const FLAT: f64 = 1e-12;

impl Equation {
    /// Fits `target` over its rows; `columns` may be longer than it, and the rest of them is not looked at.
    ///
    /// Columns and target are standardised, the intercept is not penalised. The first `bounded` coefficients are at
    /// least zero: the exact minimum under that bound, found by an active set after Lawson and Hanson, and not a
    /// free fit that is cut off afterwards, which would leave the other coefficients wrong.
    ///
    /// # Errors
    /// When a value is not finite.
    pub(crate) fn fit(columns: &[Vec<f64>], target: &[f64], bounded: usize, penalty: f64) -> Result<Self, Unsolvable> {
        let rows = target.len();
        let scaled: Vec<Scaled> = columns.iter().map(|column| Scaled::new(&column[..rows])).collect();
        let target = Scaled::new(target);
        let design =
            DMatrix::from_iterator(rows, columns.len(), scaled.iter().flat_map(|column| column.values.iter().copied()));
        let normal = covariance(&design, penalty);
        let right = design.tr_mul(&DVector::from_column_slice(&target.values)) / rows as f64;
        let solution = bounded_minimum(&normal, &right, bounded)?;
        let coefficients: Vec<f64> =
            solution.iter().zip(&scaled).map(|(value, column)| value * target.deviation / column.deviation).collect();
        let explained: f64 =
            coefficients.iter().zip(&scaled).map(|(coefficient, column)| coefficient * column.mean).sum();
        Ok(Self { intercept: target.mean - explained, coefficients })
    }

    /// The value of the equation in a row of the columns.
    pub(crate) fn predict(&self, columns: &[Vec<f64>], row: usize) -> f64 {
        columns.iter().zip(&self.coefficients).fold(self.intercept, |sum, (column, factor)| sum + factor * column[row])
    }
}

/// Means of the products of each two columns, with `penalty` added to the diagonal.
fn covariance(design: &DMatrix<f64>, penalty: f64) -> DMatrix<f64> {
    let (rows, size) = design.shape();
    let mut products = DMatrix::from_diagonal_element(size, size, penalty);
    for row in 0..size {
        for column in 0..=row {
            products[(row, column)] += design.column(row).dot(&design.column(column)) / rows as f64;
            products[(column, row)] = products[(row, column)];
        }
    }
    products
}

/// A column with mean 0 and deviation 1; a constant one becomes zeros.
struct Scaled {
    mean: f64,
    deviation: f64,
    values: Vec<f64>,
}

impl Scaled {
    fn new(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
        Self { mean, deviation, values: values.iter().map(|value| (value - mean) / deviation).collect() }
    }
}

/// Minimises `x' normal x / 2 - right' x` with the first `bounded` entries at least zero.
fn bounded_minimum(normal: &DMatrix<f64>, right: &DVector<f64>, bounded: usize) -> Result<DVector<f64>, Unsolvable> {
    let size = right.len();
    let mut free: Vec<bool> = (0..size).map(|entry| entry >= bounded).collect();
    let mut current = minimum_over(normal, right, &free)?;
    // Each round lowers the objective and no set comes twice, but rounding may break that promise.
    for _ in 0..8 * size.max(1) {
        let gradient = right - normal * &current;
        let steepest = (0..bounded).filter(|entry| !free[*entry]).max_by(|a, b| gradient[*a].total_cmp(&gradient[*b]));
        match steepest {
            Some(entry) if gradient[entry] > FLAT => free[entry] = true,
            _ => break,
        }
        loop {
            let wanted = minimum_over(normal, right, &free)?;
            let blocked = (0..bounded).filter(|entry| free[*entry] && wanted[*entry] <= 0.0);
            let step = blocked.map(|entry| current[entry] / (current[entry] - wanted[entry]).max(f64::MIN_POSITIVE));
            let Some(step) = step.min_by(f64::total_cmp) else {
                current = wanted;
                break;
            };
            current += (&wanted - &current) * step;
            for entry in 0..bounded {
                if free[entry] && wanted[entry] <= 0.0 && current[entry] <= FLAT {
                    free[entry] = false;
                    current[entry] = 0.0;
                }
            }
        }
    }
    Ok(current)
}

/// The minimum with all entries that are not `free` at zero.
fn minimum_over(normal: &DMatrix<f64>, right: &DVector<f64>, free: &[bool]) -> Result<DVector<f64>, Unsolvable> {
    let entries: Vec<usize> = (0..free.len()).filter(|entry| free[*entry]).collect();
    let mut solution = DVector::zeros(free.len());
    if entries.is_empty() {
        return Ok(solution);
    }
    let part = DMatrix::from_fn(entries.len(), entries.len(), |row, column| normal[(entries[row], entries[column])]);
    let side = DVector::from_fn(entries.len(), |row, _| right[entries[row]]);
    let solved = Cholesky::new(part).ok_or(Unsolvable)?.solve(&side);
    for (entry, value) in entries.into_iter().zip(solved.iter()) {
        solution[entry] = *value;
    }
    Ok(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn an_equation_without_noise_is_found_again() {
        let mut random = Random::new(1);
        let columns: Vec<Vec<f64>> = (0..3).map(|_| (0..60).map(|_| random.between(0.0, 9.0)).collect()).collect();
        let target: Vec<f64> = (0..60).map(|row| 5.0 + 2.0 * columns[0][row] - 3.0 * columns[2][row]).collect();
        let equation = Equation::fit(&columns, &target, 2, 1e-12).expect("solvable");
        for (found, true_value) in equation.coefficients.iter().zip([2.0, 0.0, -3.0]) {
            assert!((found - true_value).abs() < 1e-6, "{found} is not {true_value}");
        }
        assert!((equation.intercept - 5.0).abs() < 1e-6);
        assert!((equation.predict(&columns, 7) - target[7]).abs() < 1e-6);
    }

    #[test]
    fn a_bounded_solution_meets_the_conditions_of_the_minimum() {
        let mut random = Random::new(2);
        let mut stopped = 0;
        for _ in 0..200 {
            let (rows, size, bounded) = (20, 8, 6);
            let design = DMatrix::from_fn(rows, size, |_, _| random.between(-1.0, 1.0));
            let normal = design.tr_mul(&design) + DMatrix::identity(size, size) * 0.01;
            let right = DVector::from_fn(size, |_, _| random.between(-3.0, 3.0));
            let solution = bounded_minimum(&normal, &right, bounded).expect("solvable");
            let gradient = &right - &normal * &solution;
            for entry in 0..size {
                if entry < bounded && solution[entry] == 0.0 {
                    stopped += 1;
                    assert!(gradient[entry] <= 1e-9, "raising entry {entry} would lower the objective");
                } else {
                    assert!(entry >= bounded || solution[entry] > 0.0, "entry {entry} is negative");
                    assert!(gradient[entry].abs() < 1e-9, "entry {entry} is not at its minimum");
                }
            }
        }
        assert!(stopped > 200, "the bound has to matter in this test");
    }

    #[test]
    fn a_constant_column_gets_no_effect() {
        let columns = vec![vec![4.0; 5], vec![1.0, 2.0, 3.0, 4.0, 5.0]];
        let equation = Equation::fit(&columns, &[1.0, 2.0, 3.0, 4.0, 5.0], 0, 1e-9).expect("solvable");
        assert_eq!(equation.coefficients[0], 0.0);
        assert!((equation.coefficients[1] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused() {
        assert!(Equation::fit(&[vec![1.0, f64::NAN]], &[1.0, 2.0], 0, 0.1).is_err());
    }
}
