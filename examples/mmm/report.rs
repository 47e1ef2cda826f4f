//! What a training found out: the typed result, and how it is printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Result of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainingReport {
    /// First week of the dataset.
    pub(crate) first_week: String,
    /// Last week of the dataset.
    pub(crate) last_week: String,
    /// Weeks that the model was fitted to.
    pub(crate) training_weeks: usize,
    /// Last weeks, which the search and the fit did not see.
    pub(crate) held_out_weeks: usize,
    /// Sets of hyperparameters tried.
    pub(crate) trials: usize,
    /// Best trials, whose models were averaged.
    pub(crate) averaged: usize,
    /// Seed of the search.
    pub(crate) seed: u64,
    /// How well the model fits.
    pub(crate) fit: Fit,
    /// Revenue in the dataset.
    pub(crate) revenue: f64,
    /// Revenue that the model expects: `base.total` plus the contributions of all channels.
    pub(crate) fitted_revenue: f64,
    /// Revenue that no channel brought.
    pub(crate) base: Base,
    /// One per channel.
    pub(crate) channels: Vec<ChannelResult>,
}

/// How well a model fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fit {
    /// R² over the weeks that the model was fitted to.
    pub(crate) r2_training: f64,
    /// R² of the best trial on the blocks of weeks by which the hyperparameters were chosen.
    pub(crate) r2_validation: f64,
    /// R² over the weeks held out.
    pub(crate) r2_held_out: f64,
    /// Mean absolute error over the weeks fitted, as a share of the revenue.
    pub(crate) mape_training: f64,
    /// Mean absolute error over the weeks held out, as a share of the revenue.
    pub(crate) mape_held_out: f64,
}

/// Revenue that no channel brought, by cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Base {
    /// Sum of the causes.
    pub(crate) total: f64,
    /// Share of the fitted revenue.
    pub(crate) share: f64,
    /// Constant and trend.
    pub(crate) level: f64,
    /// Demand of the market, seen in the competitors' sales.
    pub(crate) market: f64,
    /// The yearly waves and the holidays.
    pub(crate) season: f64,
    /// All events.
    pub(crate) events: f64,
}

/// What a channel brought over all weeks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChannelResult {
    /// Name of the channel.
    pub(crate) channel: String,
    /// Money spent; nothing for an organic channel.
    pub(crate) spend: Option<f64>,
    /// Revenue brought, never negative.
    pub(crate) contribution: f64,
    /// Share of the fitted revenue.
    pub(crate) share: f64,
    /// Revenue brought per unit of money spent; nothing without spend.
    pub(crate) return_on_spend: Option<f64>,
    /// Lowest return among the averaged models: what data this short cannot tell apart.
    pub(crate) return_low: Option<f64>,
    /// Highest return among the averaged models.
    pub(crate) return_high: Option<f64>,
}

/// One week of the fit; the last seven columns add up to `fitted`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WeeklyFit {
    /// First day of the week.
    pub(crate) week: String,
    /// Whether the model never saw the week.
    pub(crate) held_out: bool,
    /// Revenue in the dataset.
    pub(crate) revenue: f64,
    /// Revenue that the model expects.
    pub(crate) fitted: f64,
    /// Expected without any channel.
    pub(crate) base: f64,
    /// Contribution of television.
    pub(crate) tv: f64,
    /// Contribution of out-of-home.
    pub(crate) ooh: f64,
    /// Contribution of print.
    pub(crate) print: f64,
    /// Contribution of Facebook.
    pub(crate) facebook: f64,
    /// Contribution of search.
    pub(crate) search: f64,
    /// Contribution of the newsletter.
    pub(crate) newsletter: f64,
}

/// Share of the variance that `fitted` explains; below 0 when the mean would have been the better guess.
pub(crate) fn r_squared(actual: &[f64], fitted: &[f64]) -> f64 {
    let mean = actual.iter().sum::<f64>() / actual.len() as f64;
    let error: f64 = actual.iter().zip(fitted).map(|(actual, fitted)| (actual - fitted) * (actual - fitted)).sum();
    let variance: f64 = actual.iter().map(|actual| (actual - mean) * (actual - mean)).sum();
    1.0 - error / variance
}

/// Mean of the absolute errors, each as a share of the actual value.
pub(crate) fn mean_absolute_share_of_error(actual: &[f64], fitted: &[f64]) -> f64 {
    let errors: f64 = actual.iter().zip(fitted).map(|(actual, fitted)| ((actual - fitted) / actual).abs()).sum();
    errors / actual.len() as f64
}

impl fmt::Display for TrainingReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fit, base, .. } = self;
        writeln!(out, "Marketing mix, weeks of {} to {}", self.first_week, self.last_week)?;
        writeln!(out, "mean of the best {} of {} trials (seed {})\n", self.averaged, self.trials, self.seed)?;
        writeln!(out, "{:<34} {:>8} {:>8}", "fit", "R²", "MAPE")?;
        let row = format!("trained on {} weeks", self.training_weeks);
        writeln!(out, "  {row:<32} {:>8.3} {:>7.1}%", fit.r2_training, 100.0 * fit.mape_training)?;
        writeln!(out, "  {:<32} {:>8.3}", "chosen by (weeks inside training)", fit.r2_validation)?;
        let row = format!("held out, last {} weeks", self.held_out_weeks);
        writeln!(out, "  {row:<32} {:>8.3} {:>7.1}%\n", fit.r2_held_out, 100.0 * fit.mape_held_out)?;

        writeln!(out, "{:<14} {:>13} {:>15} {:>7} {:>8} {:>15}", "", "spend", "revenue", "share", "return", "range")?;
        for channel in &self.channels {
            let spend = channel.spend.map_or_else(|| "-".to_owned(), grouped);
            let result = channel.return_on_spend.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            let range = match (channel.return_low, channel.return_high) {
                (Some(low), Some(high)) => format!("{low:.2} to {high:.2}"),
                _ => "-".to_owned(),
            };
            let (revenue, share) = (grouped(channel.contribution), 100.0 * channel.share);
            writeln!(out, "{:<14} {spend:>13} {revenue:>15} {share:>6.1}% {result:>8} {range:>15}", channel.channel)?;
        }
        let mut line = |name: &str, value: f64| {
            // Adding zero turns the "-0.0" that rounding may leave into "0.0".
            let share = (1000.0 * value / self.fitted_revenue).round() / 10.0 + 0.0;
            writeln!(out, "{name:<14} {:>13} {:>15} {share:>6.1}%", "", grouped(value))
        };
        line("base", base.total)?;
        line("  level", base.level)?;
        line("  market", base.market)?;
        line("  season", base.season)?;
        line("  events", base.events)?;
        line("fitted", self.fitted_revenue)?;
        line("actual", self.revenue)
    }
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let sign = if value < 0.0 && digits != "0" { "-" } else { "" };
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_of_fit_agree_with_sums_done_by_hand() {
        let actual = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(r_squared(&actual, &actual), 1.0);
        assert_eq!(r_squared(&actual, &[2.5; 4]), 0.0);
        assert_eq!(r_squared(&actual, &[2.0, 2.0, 3.0, 3.0]), 0.6);
        assert_eq!(mean_absolute_share_of_error(&[2.0, 4.0], &[1.0, 5.0]), 0.375);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.0, 999.0, 1000.4, -1_234_567.0, -0.3].map(grouped), ["0", "999", "1,000", "-1,234,567", "0"]);
    }
}
