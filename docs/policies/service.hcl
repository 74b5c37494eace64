# The least that the tools of TOOLSETS=service need, beside Vault's `default` policy.
# Put the agent's subject in place of `alice`, and your mount in place of `secret`.

# vault_get and vault_list of one service read; vault_set creates or updates.
path "secret/data/mcp/alice/*" { capabilities = ["create", "read", "update"] }

# vault_list of all services.
path "secret/metadata/mcp/alice" { capabilities = ["list"] }
