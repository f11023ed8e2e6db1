"""Who really sent it: SPF, DKIM, DMARC and ARC, checked and made. No Twisted; the DNS is asked by who is passed in."""
