//go:build tools

// Package vault pins the Vault server that the tests build and run. Nothing of it is shipped.
package vault

import _ "github.com/hashicorp/vault"
