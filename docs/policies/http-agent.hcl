# The policy of one subject where each has a Vault token of its own (CHILD_TOKEN_ENABLED=true), beside Vault's
# `default` policy. Its name is CHILD_TOKEN_POLICY_PREFIX and the subject, `mcp-agent-alice` for `alice`.
# `default` also allows sys/wrapping/wrap, which several servers need to finish each other's questions.
# Put your mount in place of `secret`; add the lines of the other files here for the engines that it may use.

# Secrets below the subject's own folder: read, list, write, delete, bring back, destroy.
path "secret/data/mcp/alice/*" { capabilities = ["create", "read", "update", "delete"] }
path "secret/metadata/mcp/alice" { capabilities = ["list"] }
path "secret/metadata/mcp/alice/*" { capabilities = ["list", "read"] }
path "secret/delete/mcp/alice/*" { capabilities = ["update"] }
path "secret/undelete/mcp/alice/*" { capabilities = ["update"] }
path "secret/destroy/mcp/alice/*" { capabilities = ["update"] }
