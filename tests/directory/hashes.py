"""Hashes that other systems made of known passwords: libcrypt, OpenSSL, Perl."""

from __future__ import annotations

#: libcrypt's, the first of each kind being those of the specification.
SHA_CRYPT = (
    ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
    ("Hello world!", "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"),
    ("This is just a test", "$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5"),
    (
        "a very much longer text to encrypt.  This one even stretches over morethan one line.",
        "$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1",
    ),
    (
        "we have a short salt string but not a short password",
        "$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/",
    ),
    (
        "Hello world!",
        "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    ),
    (
        "Hello world!",
        "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/"
        "y3RnOaw5v.",
    ),
    (
        "x" * 200,
        "$6$ab$omzZb0bmJoRBt5rynstCYhtCkj5Pnaxr7/OBLY7H0ohGwnKPkfLLo1GLkoPb.oJKhfU9ZEA.dchxWSflGL.eh/",
    ),
    (
        "pässword",
        "$6$rounds=1234$./Zz09$FhKV2MwLvfg4Jbl8SnNIx.lZIgETVsXUF3R3wDwZYi406hQlHojrzNJdVI8PTGzxazF3.suTJMqwIVPKq/k6n.",
    ),
)
#: Of ``sesame``: bcrypt by libcrypt in its two spellings and by another library, salted SHA by Perl.
SESAME = (
    "$2a$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW",
    "$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW",
    "$2b$04$TqASYB6e1RP6Lh34Zf/fz.k/mx7LKwrpebLB8ub.OitZgX5fumYIi",
    "{SSHA}1DPJSjMRGeHpU+xSD8JqxR9UWgtzYWx0c2FsdA==",
    "{SSHA256}CWRONBBCCAwyecjgu0Xe0XlSRwNchJ4j/XtVfMANIgBzYWx0c2FsdA==",
    "{SSHA512}mJwFXX/krKqvoCBie4zV9jmLZyvwfqNh3BAnORcFbs57NdRQAAJRFo2b3zoNbsNhNBlh22fkeW46N1b/t2u8knNhbHRzYWx0",
)
#: Of 72 times ``x``, by bcrypt.
LONG = "$2b$04$31EXrviYREd7RzRlrKJvnu4DSH2kN5do3z90u2ZgF1Wb7bb3aD1LO"
#: A weak hash of ``sesame``, quickly compared.
OLD = SESAME[0]
