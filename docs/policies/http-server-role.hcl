# As http-server.hcl, by a token role, which says what the tokens may be:
#
#     vault write auth/token/roles/vault-mcp \
#         allowed_policies_glob='mcp-agent-*' disallowed_policies=root orphan=false renewable=true token_type=service
#
# and CHILD_TOKEN_ROLE=vault-mcp. With orphan=true they do not end with the server's own token, and do not share its
# identity, whose policies they would else carry as well.
path "auth/token/create/vault-mcp" { capabilities = ["update"] }
