# The least that the tools of TOOLSETS=transit need, beside Vault's `default` policy.
# Put your mount in place of `transit`; put a key's name in place of `*` to open that key alone.
# None of these lets a caller make, rotate, export or delete a key.

# transit_keys.
path "transit/keys" { capabilities = ["list"] }
# transit_keys of one key; what kind of key it is, for transit_encrypt, transit_sign and transit_verify.
path "transit/keys/*" { capabilities = ["read"] }

path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/rewrap/*" { capabilities = ["update"] }
path "transit/sign/*" { capabilities = ["update"] }
# transit_sign with an HMAC key.
path "transit/hmac/*" { capabilities = ["update"] }
path "transit/verify/*" { capabilities = ["update"] }
path "transit/random" { capabilities = ["update"] }
