"""Brings one mail with Python's smtplib; the job is a JSON file. What went wrong is said on standard error."""

from __future__ import annotations

import json
import smtplib
import ssl
import sys
from pathlib import Path
from typing import Any

TIME = 45


def main(job: dict[str, Any]) -> int:
    """Gives the exit code."""
    context = ssl.create_default_context(cafile=job["root"])
    try:
        if job["tls"] == "implicit":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                job["host"], job["port"], "client.test", timeout=TIME, context=context
            )
        else:
            client = smtplib.SMTP(job["host"], job["port"], "client.test", timeout=TIME)
        with client:
            if job["tls"] == "starttls":
                client.starttls(context=context)
            client.ehlo()
            # login() takes the best mechanism it knows: leave it the one that is asked for.
            client.esmtp_features["auth"] = f" {job['mechanism']}"
            client.login(job["user"], job["secret"])
            content = Path(job["content"]).read_bytes()
            options = [] if content.isascii() else ["BODY=8BITMIME"]
            client.sendmail(job["sender"], job["recipients"], content, options)
    except (smtplib.SMTPException, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
