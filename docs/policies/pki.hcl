# The least that the tools of TOOLSETS=pki need, beside Vault's `default` policy.
# Put your mount in place of `pki`; put a role's name in place of `*` to open that role alone.

# pki_roles.
path "pki/roles" { capabilities = ["list"] }

# pki_issue.
path "pki/issue/*" { capabilities = ["update"] }

# pki_revoke. Vault cannot narrow this to what the token issued.
path "pki/revoke" { capabilities = ["update"] }
