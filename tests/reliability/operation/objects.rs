use std::sync::LazyLock;
use std::time::Duration;

use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions};
use anycloud::{Error, ErrorKind, GetOptions, ObjectKey, ObjectStoreExt as _, PutMode, PutOptions, Result};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{Family, Operation, Scene, Truth, done, steps};

const OLD: &[u8] = b"the old object";
const NEW: &[u8] = b"the new object, which is longer than the old one";

fn large() -> Bytes {
    static LARGE: LazyLock<Bytes> = LazyLock::new(|| random(1_200_000));
    LARGE.clone()
}

fn random(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(8).fill(&mut bytes);
    bytes.into()
}

/// More than goes up in one request, or comes down in one.
fn huge() -> Bytes {
    static HUGE: LazyLock<Bytes> = LazyLock::new(|| random((8 << 20) + 1));
    HUGE.clone()
}

async fn begin(scene: &Scene, key: &ObjectKey) -> Result<()> {
    begin_with(scene, key, OLD).await
}

async fn begin_with(scene: &Scene, key: &ObjectKey, bytes: &'static [u8]) -> Result<()> {
    let put = scene.clean_objects().put(key, Bytes::from_static(bytes), PutOptions::default()).await?;
    scene.note("version", put.version);
    scene.note("write", put.write_id);
    Ok(())
}

/// Two parts, of which the last is `NEW`.
async fn upload(scene: &Scene, mode: PutMode) -> Result<()> {
    let options = PutOptions { mode, ..PutOptions::default() };
    let mut upload = scene.objects().start_upload(&scene.key("k"), options).await?;
    let rules = upload.rules();
    let least = rules.min_bytes.max(512 * 1024).next_multiple_of(rules.multiple_of);
    let first = Bytes::from(vec![7; usize::try_from(least).expect("it fits")]);
    let all = Crc32c::of(&[&first[..], NEW].concat());
    let sent = match upload.put_part(first.into()).await {
        Ok(_) => upload.put_part(NEW.into()).await,
        failed => failed,
    };
    if let Err(error) = sent {
        // What is thrown away is judged by the truth; whether it could be is another matter.
        let _ = upload.abort().await;
        return Err(error);
    }
    upload.finish(all).await.map(drop)
}

async fn upload_truth(scene: &Scene, old: Option<&[u8]>) -> Result<Truth> {
    let stored = scene.stored(&scene.key("k")).await?;
    Ok(match stored {
        stored if stored.as_deref() == old => Truth::NotApplied,
        Some(bytes)
            if bytes.len() > NEW.len()
                && bytes.ends_with(NEW)
                && bytes[..bytes.len() - NEW.len()].iter().all(|byte| *byte == 7) =>
        {
            Truth::Applied
        }
        stored => Truth::Broken(format!("a torn upload of {:?} bytes", stored.map(|bytes| bytes.len()))),
    })
}

impl Scene {
    async fn stored(&self, key: &ObjectKey) -> Result<Option<Bytes>> {
        match self.clean_objects().get_bytes(key).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object is `new` (applied) or `old` (not applied), and nothing else.
    async fn object_truth(&self, key: &ObjectKey, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<Truth> {
        let stored = self.stored(key).await?;
        Ok(match stored.as_deref() {
            stored if stored == new => Truth::Applied,
            stored if stored == old => Truth::NotApplied,
            stored => Truth::Broken(format!("the object is neither old nor new: {:?} bytes", stored.map(<[u8]>::len))),
        })
    }
}

pub(super) const OPERATIONS: &[Operation] = steps! {
    "put_over" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().put(&s.key("k"), Bytes::from_static(NEW), PutOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), Some(NEW)).await }
    }
    "put_create" Objects {
        prepare(_s) { Ok(()) }
        act(s) {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            s.objects().put(&s.key("k"), Bytes::from_static(NEW), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("k"), None, Some(NEW)).await }
    }
    "put_replace" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) {
            let options = PutOptions { mode: PutMode::Replace(s.version()), ..PutOptions::default() };
            s.objects().put(&s.key("k"), Bytes::from_static(NEW), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), Some(NEW)).await }
    }
    "upload_create" Objects {
        prepare(_s) { Ok(()) }
        act(s) { upload(s, PutMode::Create).await.map(done) }
        truth(s) { upload_truth(s, None).await }
    }
    "upload_over" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { upload(s, PutMode::Overwrite).await.map(done) }
        truth(s) { upload_truth(s, Some(OLD)).await }
    }
    "upload_replace" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { upload(s, PutMode::Replace(s.version())).await.map(done) }
        truth(s) { upload_truth(s, Some(OLD)).await }
    }
    "put_large" Objects {
        prepare(_s) { Ok(()) }
        act(s) {
            let bytes = huge();
            let pieces = (0..bytes.len()).step_by(1 << 20).map(move |from| Ok(bytes.slice(from..bytes.len().min(from + (1 << 20)))));
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let key = s.key("k");
            s.objects().put_stream(&key, futures_util::stream::iter(pieces), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("k"), None, Some(&huge())).await }
    }
    "abort_stale" Objects {
        prepare(s) {
            if s.clean_objects().capabilities().provider == "gcp" {
                let message = "sessions end by themselves, and parts are found in tests/gcp_emulator";
                return Err(Error::new(ErrorKind::Unsupported, "test", "abort_stale", message));
            }
            let mut upload = s.clean_objects().start_upload(&s.key("k"), PutOptions::default()).await?;
            let least = usize::try_from(upload.rules().min_bytes.max(256 * 1024)).expect("it fits");
            upload.put_part(Bytes::from(vec![7; least]).into()).await?;
            // As a process leaves it that was killed.
            std::mem::forget(upload);
            Ok(())
        }
        act(s) { s.objects().abort_stale_uploads(Duration::ZERO).await.map(done) }
        truth(s) {
            let left = s.clean_objects().abort_stale_uploads(Duration::ZERO).await?;
            Ok(if left.aborted == 0 { Truth::Applied } else { Truth::NotApplied })
        }
    }
    "copy" Objects {
        prepare(s) { begin(s, &s.key("from")).await }
        act(s) { s.objects().copy(&s.key("from"), &s.key("to"), CopyOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("to"), None, Some(OLD)).await }
    }
    "copy_create" Objects {
        prepare(s) { begin(s, &s.key("from")).await }
        act(s) {
            let options = CopyOptions { mode: PutMode::Create, ..CopyOptions::default() };
            s.objects().copy(&s.key("from"), &s.key("to"), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("to"), None, Some(OLD)).await }
    }
    "copy_replace" Objects {
        prepare(s) {
            begin(s, &s.key("from")).await?;
            begin_with(s, &s.key("to"), NEW).await
        }
        act(s) {
            let options = CopyOptions { mode: PutMode::Replace(s.version()), ..CopyOptions::default() };
            s.objects().copy(&s.key("from"), &s.key("to"), options).await.map(done)
        }
        truth(s) { s.object_truth(&s.key("to"), Some(NEW), Some(OLD)).await }
    }
    "delete" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().delete(&s.key("k"), DeleteOptions::default()).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), None).await }
    }
    "delete_if_match" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { s.objects().delete(&s.key("k"), DeleteOptions { if_match: Some(s.version()) }).await.map(done) }
        truth(s) { s.object_truth(&s.key("k"), Some(OLD), None).await }
    }
    "delete_many" Objects {
        prepare(s) {
            begin(s, &s.key("a")).await?;
            begin(s, &s.key("b")).await
        }
        act(s) {
            let results = s.objects().delete_many(vec![s.key("a"), s.key("b")]).await;
            results.into_iter().map(|(_, result)| result).collect::<Result<Vec<()>>>().map(done)
        }
        truth(s) {
            let left = s.clean_objects().list_all(&format!("{}/", s.name)).await?.len();
            Ok(match left { 0 => Truth::Applied, 1 => Truth::Partly, _ => Truth::NotApplied })
        }
    }
    "get" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), large(), PutOptions::default()).await.map(drop) }
        act(s) {
            let bytes = s.objects().get_bytes(&s.key("k")).await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
        }
    }
    "get_large" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), huge(), PutOptions::default()).await.map(drop) }
        act(s) {
            let bytes = s.objects().get_bytes(&s.key("k")).await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
        }
    }
    "get_if_match" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) {
            let options = GetOptions { if_match: Some(s.version()), ..GetOptions::default() };
            let bytes = s.objects().get(&s.key("k"), options).await?.bytes().await?;
            Ok(format!("{}", bytes == OLD))
        }
    }
    "get_if_none_match" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) {
            let options = GetOptions { if_none_match: Some(s.version()), ..GetOptions::default() };
            match s.objects().get(&s.key("k"), options).await {
                Ok(_) => Ok("another".to_owned()),
                Err(error) if error.kind() == ErrorKind::NotModified => Ok("the same".to_owned()),
                Err(error) => Err(error),
            }
        }
    }
    "get_range" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), large(), PutOptions::default()).await.map(drop) }
        act(s) {
            let options = GetOptions { range: Some((1000..5000).into()), ..Default::default() };
            let bytes = s.objects().get(&s.key("k"), options).await?.bytes().await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
        }
    }
    "find_write" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) {
            let write = s.noted("write").parse()?;
            Ok(format!("{}", s.objects().find_write(&s.key("k"), &write).await?.is_some()))
        }
    }
    "head" Objects {
        prepare(s) { begin(s, &s.key("k")).await }
        act(s) { Ok(format!("{}", s.objects().head(&s.key("k"), HeadOptions::default()).await?.size)) }
    }
    "list" Objects {
        prepare(s) {
            for number in 0..5 {
                begin(s, &s.key(&format!("o{number}"))).await?;
            }
            Ok(())
        }
        act(s) {
            let start = format!("{}/", s.name);
            let options = ListOptions { page_size: Some(2), ..ListOptions::prefix(&start) };
            let names: Vec<_> = s.objects().list(options).try_collect().await?;
            Ok(names.iter().map(|entry| entry.name().trim_start_matches(&start)).collect::<Vec<_>>().join(","))
        }
    }
};
