# The least that the tools of TOOLSETS=kv need, beside Vault's `default` policy.
# Put the agent's subject in place of `alice`, and your mount in place of `secret`.

# kv_read, kv_diff, secret_compare and secret_wrap read; kv_write, kv_patch, kv_rollback, kv_generate and secret_ask
# create the first version and update to the next.
path "secret/data/mcp/alice/*" { capabilities = ["create", "read", "update"] }

# kv_list, kv_metadata.
path "secret/metadata/mcp/alice/*" { capabilities = ["list", "read"] }

# kv_delete, kv_undelete, kv_destroy. Leave out what the agent shall not do.
path "secret/delete/mcp/alice/*" { capabilities = ["update"] }
path "secret/undelete/mcp/alice/*" { capabilities = ["update"] }
path "secret/destroy/mcp/alice/*" { capabilities = ["update"] }
