# The policy of the server's own token where each subject has one of its own (CHILD_TOKEN_ENABLED=true), beside
# Vault's `default` policy: it makes the subjects' tokens and reaches no secret itself.
# `sudo`, because Vault else gives a token only such policies as the one that makes it has. It would let the server
# give any policy but `root`: http-server-role.hcl is narrower.
path "auth/token/create" { capabilities = ["update", "sudo"] }
