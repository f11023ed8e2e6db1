"""What a server needs for its handshakes: one OpenSSL context for each set of certificates, chosen by SNI.

The settings are Mozilla's "intermediate" ones: TLS 1.2 and 1.3, key exchange with forward secrecy, ciphers with
authentication, the client's preference among them. No compression, no renegotiation, no early data.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from socket import socket

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from twisted_mail_node.net.tls import TlsConnection
from twisted_mail_node.net.tls_files import Pair, read_chain
from twisted_mail_node.net.tls_names import look_up
from twisted_mail_node.net.tls_openssl import set_groups, words_of
from twisted_mail_node.net.tls_trust import Shown, note_chain
from twisted_mail_node.settings import TlsSettings

#: Ciphers of TLS 1.2; those of TLS 1.3 are all good.
CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
#: Sessions of one context may be resumed in another: SNI chooses the context after the session is found.
SESSION_CONTEXT = b"twisted-mail-node"
#: Certificates between a client's and the one that is trusted.
CLIENT_DEPTH = 5
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class Contexts:
    """The contexts for a set of certificates. Making them costs about a millisecond each: do it in a thread.

    :param pairs: at least one; of two for the same name and with the same kind of key the first counts.
    :param hostname: whose certificate those get who ask for no name, or for one that is not there.
    :param tls: the settings.
    :param client_ca: certificates that sign those of clients; ``None``: clients are not asked for any.
    :raises ValueError: OpenSSL does not take a certificate or ``client_ca``.
    """

    def __init__(self, pairs: Sequence[Pair], hostname: str, tls: TlsSettings, client_ca: Path | None = None) -> None:
        self.asks = client_ca is not None
        self._tls = tls
        self._client_ca = client_ca
        named: dict[str, dict[str, Pair]] = {}
        for pair in pairs:
            for name in pair.names:
                named.setdefault(name, {}).setdefault(pair.kind, pair)
        made: dict[tuple[int, ...], SSL.Context] = {}

        def context_of(group: Sequence[Pair]) -> SSL.Context:
            key = tuple(id(pair) for pair in group)
            if key not in made:
                made[key] = self._make(group)
            return made[key]

        self._by_name = {name: context_of(tuple(kinds.values())) for name, kinds in named.items()}
        self._default = look_up(hostname, self._by_name) or context_of(tuple(pairs[:1]))
        if len(made) > 1:
            self._default.set_tlsext_servername_callback(self._choose)

    def connection(self, socket: socket | None) -> TlsConnection:
        """A new one, the server's side: on a socket, or on buffers in memory."""
        connection = TlsConnection(self._default, socket)
        connection.shown = Shown(self)
        connection.set_accept_state()
        return connection

    def _choose(self, connection: SSL.Connection) -> None:
        """The client asks for a name (RFC 6066 section 3). An unknown one gets the default: most do not mind."""
        name = connection.get_servername()
        if name is not None:
            context = look_up(name.decode("ascii", "replace"), self._by_name)
            if context is not None and context is not self._default:
                connection.set_context(context)

    def _make(self, group: Sequence[Pair]) -> SSL.Context:
        tls = self._tls
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(_VERSIONS[tls.minimum])
        context.set_cipher_list(CIPHERS)
        set_groups(context)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_id(SESSION_CONTEXT)
        # A ticket needs no memory here. A session in which a certificate was shown is not resumed: its chain is not in
        # the ticket, and it must be looked at each time.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if not tls.tickets or self._client_ca is not None:
            context.set_options(SSL.OP_NO_TICKET)
        for pair in group:
            use_pair(context, pair)
        if self._client_ca is not None:
            self._ask(context, self._client_ca)
        return context

    @staticmethod
    def _ask(context: SSL.Context, client_ca: Path) -> None:
        """Ask clients for a certificate. Whatever they show, the handshake goes on."""
        read_chain(client_ca)
        try:
            context.load_verify_locations(os.fspath(client_ca))
            context.load_client_ca(os.fsencode(client_ca))
        except SSL.Error as error:
            raise ValueError(f"{client_ca} cannot be used: {error}") from None
        context.set_verify_depth(CLIENT_DEPTH)
        context.set_verify(SSL.VERIFY_PEER, note_chain)


def use_pair(context: SSL.Context, pair: Pair) -> None:
    """Add a certificate with its chain and key to a context.

    :raises ValueError: OpenSSL does not take it (a key that is too short, a hash that is too weak …).
    """
    chain = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in pair.chain)
    # Each certificate of a context has its own chain only when OpenSSL reads it from a file.
    file = os.memfd_create("chain", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as writing:
            writing.write(chain)
        context.use_certificate_chain_file(f"/proc/self/fd/{file}")
        context.use_privatekey(pair.key)
    except SSL.Error as error:
        words = words_of(error)
        raise ValueError(f"{pair.source.chain} cannot be used in TLS: {words or 'OpenSSL does not say why'}") from None
    finally:
        os.close(file)
