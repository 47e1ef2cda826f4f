//! The training: from the bytes of a CSV file to a report, a model and rows.

use crate::{
    dataset::{self, CHANNELS, DatasetError, Kind, Week},
    model::{Ensemble, Model, Parts},
    report::{Base, ChannelResult, Fit, TrainingReport, WeeklyFit, mean_absolute_share_of_error, r_squared},
    ridge::Unsolvable,
    search::{Settings, UnusableSettings, search},
};

/// Number of best trials whose models are averaged.
const AVERAGED: usize = 20;

/// Everything a training leaves behind.
#[derive(Debug)]
pub(crate) struct Trained {
    /// The result to show; its channels are also rows of a table.
    pub(crate) report: TrainingReport,
    /// The model, to be kept as JSON.
    pub(crate) model: Ensemble,
    /// One row per week of the dataset.
    pub(crate) weeks: Vec<WeeklyFit>,
}

/// Why a training failed; none of it gets better by trying again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainError {
    /// The dataset cannot be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The settings do not fit the dataset.
    #[error(transparent)]
    Settings(#[from] UnusableSettings),
    /// The numbers are too large to calculate with.
    #[error(transparent)]
    Unsolvable(#[from] Unsolvable),
}

/// Trains a model. `progress` gets the trials done and their total.
///
/// The same bytes and settings give the same result to the last digit, on every machine.
///
/// # Errors
/// When the dataset or the settings cannot be used.
pub(crate) fn train(
    csv: &[u8],
    settings: &Settings,
    progress: impl FnMut(usize, usize),
) -> Result<Trained, TrainError> {
    let weeks = dataset::parse(csv)?;
    let training = settings.training_weeks(weeks.len())?;
    let trials = search(&weeks, training, settings, progress)?;
    let best = trials.iter().take(AVERAGED).map(|trial| Model::fit(&weeks, training, &trial.chosen));
    let model = Ensemble { models: best.collect::<Result<_, _>>()? };
    let parts = model.decompose(&weeks);
    let report = report(&weeks, training, settings, trials[0].score, &model, &parts);
    let weeks = weeks
        .iter()
        .zip(&parts)
        .enumerate()
        .map(|(index, (week, parts))| weekly(week, parts, index >= training))
        .collect();
    Ok(Trained { report, model, weeks })
}

/// Lowest and highest total contribution of each channel among the models.
fn contribution_ranges(model: &Ensemble, weeks: &[Week]) -> [(f64, f64); CHANNELS.len()] {
    let mut ranges = [(f64::INFINITY, 0.0_f64); CHANNELS.len()];
    for model in &model.models {
        let parts = model.decompose(weeks);
        for (channel, range) in ranges.iter_mut().enumerate() {
            let total: f64 = parts.iter().map(|parts| parts.channels[channel]).sum();
            *range = (range.0.min(total), range.1.max(total));
        }
    }
    ranges
}

fn report(
    weeks: &[Week],
    training: usize,
    settings: &Settings,
    r2_validation: f64,
    model: &Ensemble,
    parts: &[Parts],
) -> TrainingReport {
    let revenue: Vec<f64> = weeks.iter().map(|week| week.revenue).collect();
    let fitted: Vec<f64> = parts.iter().map(Parts::fitted).collect();
    let total = |part: fn(&Parts) -> f64| -> f64 { parts.iter().map(part).sum() };
    let contributions: [f64; CHANNELS.len()] =
        std::array::from_fn(|channel| parts.iter().map(|parts| parts.channels[channel]).sum());
    let (level, market) = (total(|parts| parts.level), total(|parts| parts.market));
    let (season, events) = (total(|parts| parts.season), total(|parts| parts.events));
    let base = level + market + season + events;
    let fitted_revenue = base + contributions.iter().sum::<f64>();
    let channels = CHANNELS.iter().zip(contributions).zip(contribution_ranges(model, weeks)).map(
        |((channel, contribution), range)| {
            let spend: f64 = weeks.iter().map(channel.activity).sum();
            let per_spend = |value: f64| (channel.kind == Kind::Paid && spend > 0.0).then(|| value / spend);
            ChannelResult {
                channel: channel.name.to_owned(),
                spend: (channel.kind == Kind::Paid).then_some(spend),
                contribution,
                share: contribution / fitted_revenue,
                return_on_spend: per_spend(contribution),
                return_low: per_spend(range.0),
                return_high: per_spend(range.1),
            }
        },
    );
    let day = |week: Option<&Week>| week.map(|week| week.date.to_string()).unwrap_or_default();
    TrainingReport {
        first_week: day(weeks.first()),
        last_week: day(weeks.last()),
        training_weeks: training,
        held_out_weeks: weeks.len() - training,
        trials: settings.trials,
        averaged: model.models.len(),
        seed: settings.seed,
        fit: Fit {
            r2_training: r_squared(&revenue[..training], &fitted[..training]),
            r2_validation,
            r2_held_out: r_squared(&revenue[training..], &fitted[training..]),
            mape_training: mean_absolute_share_of_error(&revenue[..training], &fitted[..training]),
            mape_held_out: mean_absolute_share_of_error(&revenue[training..], &fitted[training..]),
        },
        revenue: revenue.iter().sum(),
        fitted_revenue,
        base: Base { total: base, share: base / fitted_revenue, level, market, season, events },
        channels: channels.collect(),
    }
}

fn weekly(week: &Week, parts: &Parts, held_out: bool) -> WeeklyFit {
    let [tv, ooh, print, facebook, search, newsletter] = parts.channels;
    WeeklyFit {
        week: week.date.to_string(),
        held_out,
        revenue: week.revenue,
        fitted: parts.fitted(),
        base: parts.base(),
        tv,
        ooh,
        print,
        facebook,
        search,
        newsletter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SAMPLE;

    fn few_trials() -> Settings {
        Settings { trials: 60, ..Settings::default() }
    }

    fn trained() -> Trained {
        train(SAMPLE, &few_trials(), |_, _| ()).expect("the sample trains")
    }

    #[test]
    fn the_model_predicts_weeks_that_it_never_saw() {
        let fit = trained().report.fit;
        assert!(fit.r2_training > 0.85, "{fit:?}");
        assert!(fit.r2_held_out > 0.9, "{fit:?}");
        assert!(fit.mape_held_out < 0.12, "{fit:?}");
    }

    #[test]
    fn contributions_and_base_add_up_to_the_fitted_revenue() {
        let Trained { report, weeks, .. } = trained();
        let channels: f64 = report.channels.iter().map(|channel| channel.contribution).sum();
        assert!(((report.base.total + channels) / report.fitted_revenue - 1.0).abs() < 1e-12);
        let weekly: f64 = weeks.iter().map(|week| week.fitted).sum();
        assert!((weekly / report.fitted_revenue - 1.0).abs() < 1e-12);
        for week in weeks {
            let sum = week.base + week.tv + week.ooh + week.print + week.facebook + week.search + week.newsletter;
            assert!((sum / week.fitted - 1.0).abs() < 1e-12, "{week:?}");
        }
    }

    #[test]
    fn no_channel_costs_revenue_and_returns_follow_from_the_spend() {
        for channel in trained().report.channels {
            assert!(channel.contribution >= 0.0, "{channel:?}");
            assert_eq!(channel.spend.is_some(), channel.channel != "newsletter");
            if let (Some(spend), Some(result)) = (channel.spend, channel.return_on_spend) {
                assert!((result * spend - channel.contribution).abs() <= 1e-9 * channel.contribution, "{channel:?}");
                assert!(channel.return_low <= Some(result) && Some(result) <= channel.return_high, "{channel:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_digits() {
        let text =
            |trained: Trained| serde_json::to_string(&(trained.report, trained.model, trained.weeks)).expect("writes");
        assert_eq!(text(trained()), text(trained()));
        let other = train(SAMPLE, &Settings { seed: 1, ..few_trials() }, |_, _| ()).expect("the sample trains");
        assert_ne!(text(trained()), text(other));
    }

    #[test]
    fn the_digits_are_those_of_every_other_machine() {
        let report = trained().report;
        let digits = [report.fit.r2_held_out, report.fitted_revenue, report.channels[0].contribution];
        assert_eq!(digits, [0.988_800_746_674_705_6, 378_229_041.917_652_13, 20_305_610.191_015_04]);
    }

    #[test]
    fn a_dataset_that_does_not_parse_fails_with_its_line() {
        let text = String::from_utf8_lossy(SAMPLE).replacen("2754371.66666667", "lots", 1);
        let error = train(text.as_bytes(), &few_trials(), |_, _| ()).expect_err("refused");
        assert!(error.to_string().starts_with("line 2 of the dataset:"), "{error}");
    }
}
