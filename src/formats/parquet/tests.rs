use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema};
use futures_util::{TryStreamExt as _, stream};

use super::ranges::coalesce;
use super::*;
use crate::ObjectStoreExt as _;
use crate::formats::memory::MemoryStore;
use crate::object_store::HeadOptions;

const GROUP_ROWS: usize = 50_000;
const GROUPS: usize = 4;

fn key() -> ObjectKey {
    ObjectKey::new("sales.parquet").unwrap()
}

fn schema() -> SchemaRef {
    let numbers = ["id", "noise", "wide"].map(|name| Field::new(name, DataType::Int64, false));
    Arc::new(Schema::new(numbers.into_iter().chain([Field::new("note", DataType::Utf8, true)]).collect::<Vec<_>>()))
}

/// Rows that do not compress, so that columns are wide apart.
fn batches(random: &mut fastrand::Rng) -> Vec<RecordBatch> {
    let rows = GROUP_ROWS / 10;
    let batch = |number: usize| {
        let mut noise = || -> ArrayRef { Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.i64(..)))) };
        let (noise, wide) = (noise(), noise());
        let id = Int64Array::from_iter_values((number * rows..(number + 1) * rows).map(|id| id as i64));
        let note = StringArray::from_iter((0..rows).map(|row| (row % 3 > 0).then(|| format!("note {row}"))));
        RecordBatch::try_new(schema(), vec![Arc::new(id), noise, wide, Arc::new(note)]).unwrap()
    };
    (0..GROUPS * 10).map(batch).collect()
}

async fn stored() -> (MemoryStore, Arc<dyn ObjectStore>, Vec<RecordBatch>) {
    let memory = MemoryStore::default();
    let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
    let batches = batches(&mut fastrand::Rng::with_seed(7));
    let options = ParquetWrite { row_group_rows: GROUP_ROWS, ..ParquetWrite::default() };
    store.put_parquet(&key(), schema(), stream::iter(batches.clone().into_iter().map(Ok)), options).await.unwrap();
    (memory, store, batches)
}

async fn ids(store: &Arc<dyn ObjectStore>, options: ParquetRead) -> Result<Vec<i64>> {
    let batches: Vec<RecordBatch> = store.read_parquet(&key(), options).await?.try_collect().await?;
    let column =
        |batch: &RecordBatch| batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    Ok(batches.iter().flat_map(column).collect())
}

#[tokio::test]
async fn batches_come_back_as_they_were_put() {
    let (_, store, put) = stored().await;
    let read = store.read_parquet(&key(), ParquetRead { batch_rows: 5000, ..Default::default() }).await.unwrap();
    assert_eq!((read.schema(), read.rows(), read.row_groups()), (&schema(), (GROUP_ROWS * GROUPS) as u64, GROUPS));
    assert_eq!(read.try_collect::<Vec<_>>().await.unwrap(), put);
    let meta = store.head(&key(), HeadOptions::default()).await.unwrap();
    assert_eq!(meta.headers.content_type.as_deref(), Some("application/vnd.apache.parquet"));
}

#[tokio::test]
async fn only_the_footer_and_the_columns_and_row_groups_asked_for_are_requested() {
    let (memory, store, _) = stored().await;
    let size = store.head(&key(), HeadOptions::default()).await.unwrap().size;
    let options =
        || ParquetRead { columns: Some(vec!["id".into()]), row_groups: Some(vec![1, 3]), ..Default::default() };
    let expected: Vec<i64> =
        [1, 3].iter().flat_map(|group| (group * GROUP_ROWS as i64)..((group + 1) * GROUP_ROWS as i64)).collect();
    assert_eq!(ids(&store, options()).await.unwrap(), expected);
    let gets = memory.take_gets();
    // The footer, and one column of each of two row groups.
    assert_eq!(gets.len(), 3, "{gets:?}");
    assert_eq!(gets[0].0, size - 64 * 1024..size);
    let bytes: u64 = gets.iter().map(|(range, _)| range.end - range.start).sum();
    assert!(bytes < size / 3, "{bytes} of {size} bytes were requested");
    assert!(gets[1..].iter().all(|(_, options)| options.if_match.is_some()));

    ids(&store, ParquetRead::default()).await.unwrap();
    // All columns of a row group lie side by side.
    assert_eq!(memory.take_gets().len(), 1 + GROUPS);
}

#[tokio::test]
async fn a_small_object_costs_one_request() {
    let (memory, store, batches) = stored().await;
    let few = stream::iter([Ok(batches[0].slice(0, 100))]);
    store.put_parquet(&key(), schema(), few, ParquetWrite::default()).await.unwrap();
    assert_eq!(ids(&store, ParquetRead::default()).await.unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(memory.take_gets().len(), 1);
}

#[tokio::test]
async fn a_long_footer_costs_one_request_more() {
    let memory = MemoryStore::default();
    let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
    let fields: Vec<_> =
        (0..2000).map(|number| Field::new(format!("column {number}"), DataType::Int64, false)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let columns = (0..2000).map(|number| Arc::new(Int64Array::from(vec![number])) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    store.put_parquet(&key(), schema, stream::iter([Ok(batch.clone())]), ParquetWrite::default()).await.unwrap();
    let read: Vec<_> = store.read_parquet(&key(), ParquetRead::default()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(read, [batch]);
    // The end, the whole footer, and the columns.
    assert_eq!(memory.take_gets().len(), 3);
}

#[tokio::test]
async fn an_object_that_is_replaced_meanwhile_is_not_mixed_with_the_new_one() {
    let (_, store, batches) = stored().await;
    let mut reading = store.read_parquet(&key(), ParquetRead::default()).await.unwrap();
    reading.try_next().await.unwrap().unwrap();
    let other = stream::iter([Ok(batches[0].clone())]);
    store.put_parquet(&key(), schema(), other, ParquetWrite::default()).await.unwrap();
    let error = reading.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn what_is_not_there_or_not_parquet_is_told_apart() {
    let (_, store, _) = stored().await;
    let column = ParquetRead { columns: Some(vec!["revenue".into()]), ..Default::default() };
    let error = ids(&store, column).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.message().contains("`revenue`"), "{error}");
    let group = ParquetRead { row_groups: Some(vec![GROUPS]), ..Default::default() };
    assert_eq!(ids(&store, group).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let whole = store.get_bytes(&key()).await.unwrap();
    for damaged in [&b""[..], b"id,noise\n1,2\n", &whole[..whole.len() - 9], &whole[whole.len() - 500..]] {
        store.put_bytes(&key(), damaged.to_vec()).await.unwrap();
        assert_eq!(ids(&store, ParquetRead::default()).await.unwrap_err().kind(), ErrorKind::InvalidFormat);
    }
    store.put_bytes(&key(), [&b"PAR1"[..], &[0xff; 200], b"\x10\0\0\0PAR1"].concat()).await.unwrap();
    assert_eq!(ids(&store, ParquetRead::default()).await.unwrap_err().kind(), ErrorKind::InvalidFormat);
}

#[tokio::test]
async fn a_failing_source_publishes_nothing() {
    let (_, store, batches) = stored().await;
    let before = store.head(&key(), HeadOptions::default()).await.unwrap();
    let broken = Error::new(ErrorKind::Unavailable, "source", "", "no more rows");
    let source = stream::iter(vec![Ok(batches[0].clone()), Err(broken)]);
    let error = store.put_parquet(&key(), schema(), source, ParquetWrite::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, false)]));
    let source = stream::iter([Ok(batches[0].clone())]);
    let error = store.put_parquet(&key(), other, source, ParquetWrite::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidFormat);
    assert_eq!(store.head(&key(), HeadOptions::default()).await.unwrap(), before);
}

#[tokio::test]
async fn row_groups_leave_while_the_source_still_flows() {
    let memory = MemoryStore::default();
    let store: Arc<dyn ObjectStore> = Arc::new(memory.clone());
    let batches = batches(&mut fastrand::Rng::with_seed(7));
    let source = stream::iter((0..4 * batches.len()).map(|number| {
        let last = number + 1 == 4 * batches.len();
        assert!(!last || memory.largest_part() > 0, "nothing was sent before the end");
        Ok(batches[number % batches.len()].clone())
    }));
    let options = ParquetWrite { row_group_bytes: 1 << 20, ..ParquetWrite::default() };
    store.put_parquet(&key(), schema(), source, options).await.unwrap();
    assert!(memory.largest_part() <= 8 << 20, "{}", memory.largest_part());
    let read = store.read_parquet(&key(), ParquetRead::default()).await.unwrap();
    let rows = (4 * GROUPS * GROUP_ROWS) as u64;
    assert!(read.rows() == rows && read.row_groups() >= 8, "{read:?}");
}

#[test]
fn near_ranges_are_joined_and_far_ones_are_not() {
    const MIB: u64 = 1024 * 1024;
    let ranges = vec![5 * MIB..6 * MIB, 0..10, 20..30, 25..40, 50..50, 7 * MIB..8 * MIB, 10 * MIB..11 * MIB];
    assert_eq!(coalesce(ranges), [0..40, 5 * MIB..8 * MIB, 10 * MIB..11 * MIB]);
}
