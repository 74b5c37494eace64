"""The other side of the KMS tests: moto's server, AWS' own SDK for Python, an independent library of
cryptography, and a verifier of signed requests.

One JSON object a line on standard input, one a line back. The first line out is the server's address. It ends
with its input.
"""

import base64
import hashlib
import hmac
import json
import logging
import sys
import urllib.parse

import boto3
import botocore.config
import botocore.exceptions
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)

REGION = "eu-west-1"


def unbase(text):
    return base64.b64decode(text, validate=True)


def base(data):
    return base64.b64encode(data).decode()


class Kms:
    def __init__(self, address):
        self.client = boto3.client(
            "kms",
            endpoint_url=address,
            region_name=REGION,
            aws_access_key_id="AKIAOTHERSIDE",
            aws_secret_access_key="other-side",
            config=botocore.config.Config(retries={"max_attempts": 1}),
        )

    def create_key(self, spec="SYMMETRIC_DEFAULT", usage="ENCRYPT_DECRYPT", alias=None):
        data = self.client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
        if alias:
            self.client.create_alias(AliasName=alias, TargetKeyId=data["KeyId"])
        return {"id": data["KeyId"], "arn": data["Arn"]}

    def encrypt(self, key, plaintext, context=None):
        answer = self.client.encrypt(
            KeyId=key, Plaintext=unbase(plaintext), EncryptionContext=context or {}
        )
        return {"ciphertext": base(answer["CiphertextBlob"])}

    def decrypt(self, ciphertext, context=None):
        answer = self.client.decrypt(CiphertextBlob=unbase(ciphertext), EncryptionContext=context or {})
        return {"plaintext": base(answer["Plaintext"])}

    def seal(self, key, text):
        """Uses a data key: AES-GCM with a fixed nonce, which is fine for one message."""
        return {"sealed": base(AESGCM(unbase(key)).encrypt(b"\0" * 12, text.encode(), None))}

    def open(self, wrapped, sealed, context=None):
        """What a later reader does: has KMS open the wrapped key, and opens the message with it."""
        key = unbase(self.decrypt(wrapped, context)["plaintext"])
        return {"text": AESGCM(key).decrypt(b"\0" * 12, unbase(sealed), None).decode()}

    def check(self, key, algorithm, message, signature):
        """The signature against the public key, by a library that knows nothing of AWS."""
        public = serialization.load_der_public_key(self.client.get_public_key(KeyId=key)["PublicKey"])
        digest = getattr(hashes, "SHA" + algorithm.rsplit("_", 1)[1])()
        message, signature = unbase(message), unbase(signature)
        try:
            if isinstance(public, rsa.RSAPublicKey):
                if "_PSS_" in algorithm:
                    # AWS' salt is as long as the digest, moto's as long as can be.
                    scheme = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
                else:
                    scheme = padding.PKCS1v15()
                public.verify(signature, message, scheme, digest)
            else:
                public.verify(signature, message, ec.ECDSA(digest))
        except InvalidSignature:
            return {"valid": False}
        return {"valid": True}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sigv4(method, target, headers, body, secret):
    """Signature version 4, from the description "Create a signed AWS API request"."""
    headers = [(name.lower(), " ".join(value.split())) for name, value in headers]
    one = dict(headers)
    scheme, _, rest = one["authorization"].partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return {"valid": False, "why": "another scheme"}
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    access, date, region, service, end = parts["Credential"].split("/")
    signed = parts["SignedHeaders"].split(";")
    for wanted in ("host", "x-amz-date", "x-amz-target"):
        if wanted not in signed:
            return {"valid": False, "why": f"{wanted} is not signed"}
    path, _, query = target.partition("?")
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    canonical = "\n".join(
        [
            method,
            urllib.parse.quote(path, safe="/-_.~"),
            "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs),
            *[f"{name}:{one[name]}" for name in signed],
            "",
            ";".join(signed),
            sha256(unbase(body)),
        ]
    )
    scope = f"{date}/{region}/{service}/{end}"
    text = "\n".join(["AWS4-HMAC-SHA256", one["x-amz-date"], scope, sha256(canonical.encode())])
    key = ("AWS4" + secret).encode()
    for step in (date, region, service, end):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    valid = hmac.compare_digest(wanted, parts["Signature"]) and one["x-amz-date"].startswith(date)
    return {"valid": valid, "why": "", "access": access, "scope": f"{region}/{service}/{end}"}


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    kms = Kms(f"http://{host}:{port}")
    print(f"http://{host}:{port}", flush=True)
    for line in sys.stdin:
        wanted = json.loads(line)
        name = wanted.pop("do")
        try:
            answer = sigv4(**wanted) if name == "sigv4" else getattr(kms, name)(**wanted)
        except botocore.exceptions.ClientError as error:
            answer = {"error": error.response["Error"]["Code"]}
        print(json.dumps(answer), flush=True)


main()
