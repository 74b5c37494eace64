# The least that the tools of TOOLSETS=ssh need, beside Vault's `default` policy.
# Put your mount in place of `ssh`; put a role's name in place of `*` to open that role alone.

# ssh_otp.
path "ssh/creds/*" { capabilities = ["update"] }

# ssh_sign; who the role's default user is, where a call names nobody.
path "ssh/sign/*" { capabilities = ["update"] }
path "ssh/roles/*" { capabilities = ["read"] }
