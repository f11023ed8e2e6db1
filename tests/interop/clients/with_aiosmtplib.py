"""Brings one mail with aiosmtplib; the job is a JSON file. What went wrong is said on standard error."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import aiosmtplib

TIME = 45


async def bring(job: dict[str, Any]) -> None:
    """:raises aiosmtplib.SMTPException: it did not work."""
    client = aiosmtplib.SMTP(
        hostname=job["host"],
        port=job["port"],
        local_hostname="client.test",
        timeout=TIME,
        use_tls=job["tls"] == "implicit",
        start_tls=job["tls"] == "starttls",
        tls_context=ssl.create_default_context(cafile=job["root"]),
    )
    async with client:
        await client.ehlo()
        sign_in = {"PLAIN": client.auth_plain, "LOGIN": client.auth_login, "XOAUTH2": client.auth_xoauth2}
        await sign_in[job["mechanism"]](job["user"], job["secret"])
        content = Path(job["content"]).read_bytes()
        options = [] if content.isascii() else ["BODY=8BITMIME"]
        await client.sendmail(job["sender"], job["recipients"], content, mail_options=options)


def main(job: dict[str, Any]) -> int:
    """Gives the exit code."""
    try:
        asyncio.run(bring(job))
    except (aiosmtplib.SMTPException, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
