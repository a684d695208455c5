//! Names in client certificates.

use doorward::values::certificate::{CertificateNameError as Flaw, certificate_name};

#[test]
fn uris_and_dns_names_are_taken_as_they_stand_in_certificates() {
    let long = format!("urn:{}", "x".repeat(508));
    let host = format!("dns:{}.{}", "a".repeat(63), "b".repeat(63));
    for good in [
        "spiffe://example.org/shop",
        "spiffe://prod/ns/shop/sa/web",
        "spiffe://a_b-c.example.org/Shop/v1.2/_x",
        "urn:x:a",
        "https://shop.example.org/",
        "https://shop.example.org:8443/a%20b?c=d#e",
        "mailto:shop@example.org",
        "x:y",
        "dns:shop.example.org",
        "dns:shop",
        "dns:_shop.example.org",
        "dns:xn--nxasmq6b.example.org",
        "dns:1.2.3",
        &long,
        &host,
    ] {
        assert_eq!(certificate_name(good), Ok(()), "{good}");
    }
}

#[test]
fn what_no_certificate_can_say_is_refused() {
    let long = format!("urn:{}", "x".repeat(509));
    let label = format!("dns:{}.example.org", "a".repeat(64));
    let host = format!("dns:{}a", "a.".repeat(127));
    for (bad, flaw) in [
        ("", Flaw::Form),
        ("shop", Flaw::Form),
        ("shop.example.org", Flaw::Form),
        ("CN=shop", Flaw::Form),
        ("urn:", Flaw::Form),
        (":x", Flaw::Form),
        ("1x:y", Flaw::Form),
        ("a b:c", Flaw::Form),
        ("urn:a b", Flaw::Form),
        (" urn:a", Flaw::Form),
        ("urn:a\n", Flaw::Form),
        ("urn:a\0", Flaw::Form),
        ("urn:é", Flaw::Form),
        ("urn:<a>", Flaw::Form),
        ("urn:\"a\"", Flaw::Form),
        ("é:a", Flaw::Form),
        (&long, Flaw::TooLong),
        ("dns:", Flaw::Host),
        ("dns:Shop.example.org", Flaw::Host),
        ("DNS:shop.example.org", Flaw::Host),
        ("dNs:shop.example.org", Flaw::Host),
        ("dns://shop.example.org", Flaw::Host),
        ("dns:shop.example.org.", Flaw::Host),
        ("dns:.example.org", Flaw::Host),
        ("dns:shop..example.org", Flaw::Host),
        ("dns:*.example.org", Flaw::Host),
        ("dns:-shop.example.org", Flaw::Host),
        ("dns:shop-.example.org", Flaw::Host),
        ("dns:shop.example.org:443", Flaw::Host),
        ("dns:shöp.example.org", Flaw::Host),
        (&label, Flaw::Host),
        (&host, Flaw::Host),
        ("spiffe:", Flaw::Spiffe),
        ("spiffe://", Flaw::Spiffe),
        ("spiffe://example.org", Flaw::Spiffe),
        ("spiffe://example.org/", Flaw::Spiffe),
        ("spiffe:///shop", Flaw::Spiffe),
        ("spiffe:example.org/shop", Flaw::Spiffe),
        ("SPIFFE://example.org/shop", Flaw::Spiffe),
        ("spiffe://Example.org/shop", Flaw::Spiffe),
        ("spiffe://example.org:443/shop", Flaw::Spiffe),
        ("spiffe://user@example.org/shop", Flaw::Spiffe),
        ("spiffe://example.org/shop/", Flaw::Spiffe),
        ("spiffe://example.org//shop", Flaw::Spiffe),
        ("spiffe://example.org/./shop", Flaw::Spiffe),
        ("spiffe://example.org/../shop", Flaw::Spiffe),
        ("spiffe://example.org/sh%6fp", Flaw::Spiffe),
        ("spiffe://example.org/shop?a=b", Flaw::Spiffe),
        ("spiffe://example.org/shop#a", Flaw::Spiffe),
    ] {
        assert_eq!(certificate_name(bad), Err(flaw), "{bad}");
    }
}
