//! Names in client certificates that can stand for a service account: URIs as they stand in the certificate, and DNS names as `dns:` and the
//! name in lower case. They are compared byte by byte with what a certificate says, so a name that no certificate can have is refused: a
//! slip would let nobody in, and nobody would know why.

/// The most bytes of a name.
const MAX: usize = 512;
/// The most characters of a host name, and of a part between two dots (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;
const DNS: &str = "dns:";
const SPIFFE: &str = "spiffe:";

/// Why a text names no certificate. The sentence goes behind the field's name in a `BadRequest`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateNameError {
    /// Too long.
    #[error("must not be longer than {MAX} bytes")]
    TooLong,
    /// Neither of the two forms.
    #[error("must be a URI as it stands in the certificate, or dns: and a name")]
    Form,
    /// Not what a certificate says as a DNS name.
    #[error("must have, behind dns:, a host name in lower case, without wildcards")]
    Host,
    /// Not the id of a workload.
    #[error("must be spiffe:// with a trust domain in lower case and a path, without a slash at the end")]
    Spiffe,
}

/// Whether a certificate can have this name.
///
/// # Errors
/// Everything that none can have.
pub fn certificate_name(name: &str) -> Result<(), CertificateNameError> {
    let begins = |scheme: &str| name.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if name.len() > MAX {
        Err(CertificateNameError::TooLong)
    } else if begins(DNS) {
        // A URI may begin so as well (RFC 4501); it must not pass for a DNS name, nor the other way round.
        check(name.strip_prefix(DNS).is_some_and(is_host), CertificateNameError::Host)
    } else if begins(SPIFFE) {
        check(is_spiffe_id(name), CertificateNameError::Spiffe)
    } else {
        check(is_uri(name), CertificateNameError::Form)
    }
}

fn check(is_good: bool, error: CertificateNameError) -> Result<(), CertificateNameError> {
    if is_good { Ok(()) } else { Err(error) }
}

fn is_host(host: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= LABEL_MAX && label.bytes().all(is_inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= HOST_MAX && host.split('.').all(is_label)
}

/// The id of a workload (SPIFFE-ID, section 2): a trust domain alone is no workload.
fn is_spiffe_id(name: &str) -> bool {
    let Some((domain, path)) = name.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else { return false };
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_path);
    !domain.is_empty() && domain.bytes().all(in_domain) && path.split('/').all(is_segment)
}

/// A scheme and something behind it, in characters that a URI may have (RFC 3986, section 2).
fn is_uri(name: &str) -> bool {
    let Some((scheme, rest)) = name.split_once(':') else { return false };
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let in_uri = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(in_scheme)
        && !rest.is_empty()
        && rest.bytes().all(in_uri)
}
