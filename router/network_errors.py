"""Words for why a connection failed: what the system or TLS reports, without their numbers and abbreviations.

Owns no advice: what to try next depends on who connects to what, and is added by the caller.
"""

import os
import re
import ssl

NOT_PEM = "there is nothing in the file that can be used, which has to be in the form PEM"
NO_TLS = "the other side does not speak TLS"
UNTRUSTED = "its certificate is not trusted"
REFUSED = "the other side does not trust the certificate that it was shown"

_TLS_REASONS = {  # OpenSSL's names; either side may find the fault, so each has several
    "WRONG_VERSION_NUMBER": NO_TLS,
    "UNKNOWN_PROTOCOL": NO_TLS,
    "HTTP_REQUEST": NO_TLS,
    "PACKET_LENGTH_TOO_LONG": NO_TLS,
    "RECORD_LAYER_FAILURE": NO_TLS,
    "UNSUPPORTED_PROTOCOL": "both sides have no version of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "both sides have no version of TLS in common",
    "NO_SHARED_CIPHER": "both sides have no cipher in common",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "both sides have no cipher in common",
    "TLSV1_ALERT_UNKNOWN_CA": REFUSED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": REFUSED,
    "SSLV3_ALERT_BAD_CERTIFICATE": REFUSED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the certificate that the other side was shown has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side requires a client certificate",
    "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
    "NO_START_LINE": NOT_PEM,
    "NO_CERTIFICATE_OR_CRL_FOUND": NOT_PEM,
    "PEM_LIB": NOT_PEM,
    "BAD_DECRYPT": "the key is encrypted",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "a client certificate is required, and the client has shown none",
}


def explain(error: BaseException) -> str:
    """What went wrong, by an error and what lies behind it: a failure of TLS, of the system, or its text."""
    chain = list(_behind(error))
    for each in chain:
        if isinstance(each, ssl.SSLError):
            return _of_tls(each)
    for each in chain:
        number = getattr(each, "errno", None)
        if isinstance(each, OSError) and (number or each.strerror):
            # Errors of name look-ups have numbers of their own, below 0.
            return os.strerror(number) if number and number > 0 else str(each.strerror)
    return str(error)


def tls_advice(error: BaseException, where: str) -> str:
    """What a user can do about certificates by the parameters of a URL, which is called ``where``; "" if the
    error has nothing to do with them.
    """
    for each in _behind(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return (
                f"cacertfile=FILE in {where} names the authorities to trust, "
                "and verify=verify_none takes any certificate"
            )
        if isinstance(each, ssl.SSLError) and "CERTIFICATE" in (each.reason or ""):
            return f"certfile=FILE and keyfile=FILE in {where} name the certificate to show"
    return ""


def _behind(error: BaseException | None) -> list[BaseException]:
    """An error and its causes, and those of the first member of a group."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        group = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = group or error.__cause__ or error.__context__
    return found


def _reason_in(error: ssl.SSLError) -> str:
    """The reason that stands in the text alone, as in ``[SSL] PEM lib (_ssl.c:4149)``."""
    text = re.sub(r"^\[[^]]*\] *| *\(_ssl\.c:\d+\)$", "", str(error.strerror or error))
    return text.upper().replace(" ", "_")


def _of_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{UNTRUSTED}: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side ended the connection without closing TLS"
    reason = error.reason or _reason_in(error)
    return _TLS_REASONS.get(reason, f"TLS failed: {reason.lower().replace('_', ' ')}")
