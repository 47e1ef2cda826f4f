//! The side of the job: what runs in the training container.

use anycloud::formats::csv::CsvExt as _;
use anycloud::formats::parquet::{ParquetExt as _, ParquetWrite};
use anycloud::object_store::ContentHeaders;
use anycloud::{JobContext, ObjectKey, ObjectStoreExt as _, PutOptions, SecretName, SecretStoreExt as _, SecretValue};
use futures_util::stream;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::report::TrainingReport;
use crate::search::Settings;
use crate::train::{Trained, train};
use crate::{Failure, chart, table};

/// What the application asks of the job.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Where the dataset lies.
    pub(crate) dataset: ObjectKey,
    /// What the keys of all results start with.
    pub(crate) results: String,
    /// The secret that holds the key to seal the report with.
    pub(crate) sealing_key: SecretName,
    /// How to train.
    pub(crate) settings: Settings,
}

/// What the job hands over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// What the training found out.
    pub(crate) report: TrainingReport,
    /// The HMAC-SHA256 of the report as JSON, in hexadecimal digits.
    seal: String,
}

impl Outcome {
    fn sealed(report: TrainingReport, key: &SecretValue) -> Result<Self, Failure> {
        let seal = seal(&report, key)?;
        Ok(Self { report, seal })
    }

    /// Whether the report is the one that was sealed with this key.
    pub(crate) fn is_sealed_with(&self, key: &SecretValue) -> bool {
        seal(&self.report, key).is_ok_and(|seal| seal == self.seal)
    }
}

fn seal(report: &TrainingReport, key: &SecretValue) -> Result<String, Failure> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose())?;
    mac.update(&serde_json::to_vec(report)?);
    Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(crate) async fn run() -> Result<(), Failure> {
    let context = JobContext::from_env()?;
    tokio::select! {
        done = work(&context) => done,
        () = context.cancelled() => {
            eprintln!("asked to end");
            // 128 and the number of SIGTERM, as a shell would report it.
            std::process::exit(143)
        }
    }
}

async fn work(context: &JobContext) -> Result<(), Failure> {
    let order: Order = context.payload().await?;
    let objects = context.cloud().objects();
    let dataset = objects.get_bytes(&order.dataset).await?;
    let sealing_key = context.cloud().secrets().get_latest(&order.sealing_key).await?.value;

    let trained = tokio::task::spawn_blocking(move || {
        train(&dataset, &order.settings, |done, total| {
            if done % 50 == 0 || done == total {
                println!("trials {done}/{total}");
            }
        })
    });
    let Trained { report, model, weeks } = trained.await??;

    let key = |name: &str| ObjectKey::new(format!("{}{name}", order.results));
    objects.put_json(&key("model.json")?, &model).await?;
    objects.put_json(&key("report.json")?, &report).await?;
    objects.put_csv(&key("weeks.csv")?, &weeks).await?;
    let channels = table::channels(&report)?;
    let (schema, batches) = (channels.schema(), stream::iter([Ok(channels)]));
    objects.put_parquet(&key("channels.parquet")?, schema, batches, ParquetWrite::default()).await?;
    let headers = ContentHeaders::of_type("image/svg+xml");
    let svg = chart::draw(&report, &weeks)?.into();
    objects.put(&key("chart.svg")?, svg, PutOptions { headers, ..PutOptions::default() }).await?;
    context.finish(&Outcome::sealed(report, &sealing_key)?).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::SAMPLE;

    #[test]
    fn a_changed_report_or_another_key_breaks_the_seal() {
        let settings = Settings { trials: 40, ..Settings::default() };
        let report = train(SAMPLE, &settings, |_, _| ()).unwrap().report;
        let key = SecretValue::from("key");
        let outcome = Outcome::sealed(report, &key).unwrap();
        // As it travels: through JSON.
        let mut outcome: Outcome = serde_json::from_slice(&serde_json::to_vec(&outcome).unwrap()).unwrap();
        assert!(outcome.is_sealed_with(&key) && !outcome.is_sealed_with(&SecretValue::from("other")));
        outcome.report.revenue += 1.0;
        assert!(!outcome.is_sealed_with(&key));
    }
}
