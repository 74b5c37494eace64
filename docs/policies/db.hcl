# The least that the tools of TOOLSETS=db need, beside Vault's `default` policy, which allows db_renew.
# Put your mount in place of `database`; put a role's name in place of `*` to open that role alone.

# db_issue_creds.
path "database/creds/*" { capabilities = ["read"] }

# db_revoke and REVOKE_LEASES_ON_EXIT. Vault cannot narrow this to the token's own leases; this server sends
# only those that it issued to the same caller.
path "sys/leases/revoke" { capabilities = ["update"] }
