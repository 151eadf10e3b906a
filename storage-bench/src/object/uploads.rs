//! Uploads in parts that a killed run left: S3 keeps, and bills, their parts until they are
//! aborted. The library cannot list them, so that this asks by itself.

use super::client::{Client, Failure, Trouble};
use super::operation;
use super::spec::Store;
use super::wire::{Fault, element};
use http::{Method, Request};
use http_body_util::BodyExt;
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequestBody;
use object_store::path::Path;

/// The most pages of 1000 that are worked through.
const MOST_PAGES: usize = 100;

/// Aborts all uploads below a folder and says how many there were. After an abort the next page is
/// the first one again.
///
/// # Errors
/// The server does not list uploads, or does not abort one.
pub async fn abort_all(client: &Client, store: &Store, folder: &Path) -> Result<u64, Failure> {
    let mut aborted = 0;
    for _ in 0..MOST_PAGES {
        let page = client.tried(|| page(client, store, folder)).await?;
        if page.is_empty() {
            break;
        }
        for (path, id) in page {
            operation::abort(client, &path, &id).await?;
            aborted += 1;
        }
    }
    Ok(aborted)
}

/// The first page of uploads below a folder.
async fn page(
    client: &Client,
    store: &Store,
    folder: &Path,
) -> Result<Vec<(Path, String)>, Trouble> {
    // What prefixes may have beside letters and digits: see `place`.
    let prefix = format!("{folder}/").replace('/', "%2F").replace('=', "%3D");
    let uri = format!("{}/?prefix={prefix}&uploads=", store.bucket_address());
    let request = Request::builder().method(Method::GET).uri(uri);
    let mut request = request
        .body(HttpRequestBody::empty())
        .map_err(|error| Trouble::Malformed(error.to_string()))?;
    if !store.anonymous {
        let credential = client.store.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &store.region).try_authorize(&mut request, None)?;
    }
    let response = client
        .wire
        .exchange(request)
        .await
        .map_err(Trouble::Fault)?;
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| Trouble::Fault(Fault::CutOff(error.to_string())))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if !text.contains("ListMultipartUploadsResult") {
        let text = "the answer to a listing of uploads is none";
        return Err(Trouble::Malformed(text.to_owned()));
    }
    Ok(uploads(&text, folder))
}

/// The uploads of a listing that are below a folder, whatever else the server returns.
fn uploads(xml: &str, folder: &Path) -> Vec<(Path, String)> {
    let entries = xml.split("<Upload>").skip(1);
    entries
        .filter_map(|entry| {
            let path = Path::parse(element(entry, "Key")?).ok()?;
            let ours = path.prefix_matches(folder);
            ours.then_some((path, element(entry, "UploadId")?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_of_the_folder_are_taken() {
        let xml = "<ListMultipartUploadsResult><Upload><Key>p/run/0000/000000001</Key>\
                   <UploadId>abc</UploadId></Upload><Upload><Key>p/other/1</Key>\
                   <UploadId>def</UploadId></Upload></ListMultipartUploadsResult>";
        let found = uploads(xml, &Path::from("p/run"));
        let expected = (Path::from("p/run/0000/000000001"), "abc".to_owned());
        assert_eq!(found, [expected]);
        assert!(uploads("<ListMultipartUploadsResult/>", &Path::from("p")).is_empty());
    }
}
