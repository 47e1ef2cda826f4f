use anycloud::object_store::{CopyOptions, Crc32c, DeleteOptions, HeadOptions, ListOptions};
use anycloud::{ErrorKind, ObjectKey, ObjectStoreExt as _, PutMode, PutOptions, Result};
use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{Family, Operation, Scene, Truth, done, steps};

const OLD: &[u8] = b"the old object";
const NEW: &[u8] = b"the new object, which is longer than the old one";

fn large() -> Bytes {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into()
}

async fn begin(scene: &Scene, key: &ObjectKey) -> Result<()> {
    let put = scene.clean_objects().put(key, Bytes::from_static(OLD), PutOptions::default()).await?;
    scene.note("version", put.version);
    Ok(())
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
        act(s) {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let mut upload = s.objects().start_upload(&s.key("k"), options).await?;
            let rules = upload.rules();
            let least = rules.min_bytes.max(512 * 1024).next_multiple_of(rules.multiple_of);
            let least = usize::try_from(least).expect("it fits");
            let first = Bytes::from(vec![7; least]);
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
            upload.finish(all).await.map(done)
        }
        truth(s) {
            let stored = s.stored(&s.key("k")).await?;
            Ok(match stored {
                None => Truth::NotApplied,
                Some(bytes) if bytes.len() > NEW.len() && bytes.ends_with(NEW)
                    && bytes[..bytes.len() - NEW.len()].iter().all(|byte| *byte == 7) => Truth::Applied,
                Some(bytes) => Truth::Broken(format!("a torn upload of {} bytes", bytes.len())),
            })
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
    "get_range" Objects {
        prepare(s) { s.clean_objects().put(&s.key("k"), large(), PutOptions::default()).await.map(drop) }
        act(s) {
            let options = anycloud::GetOptions { range: Some((1000..5000).into()), ..Default::default() };
            let bytes = s.objects().get(&s.key("k"), options).await?.bytes().await?;
            Ok(format!("{} bytes, {:?}", bytes.len(), Crc32c::of(&bytes)))
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
