"""Client certificates: whose account one is for. The handshake has verified that it is signed by `tls.client_ca`."""

from cryptography import x509

from pillarbox.auth.address import is_address


def addresses_of(certificate: bytes) -> list[str]:
    """The mail addresses in the subjectAltName of a certificate (DER), as far as `is_address` takes them for such; none
    if there is something odd about it."""
    try:
        names = (
            x509.load_der_x509_certificate(certificate)
            .extensions.get_extension_for_class(x509.SubjectAlternativeName)
            .value
        )
    except (
        ValueError,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        return []
    return [each for each in names.get_values_for_type(x509.RFC822Name) if is_address(each)]
