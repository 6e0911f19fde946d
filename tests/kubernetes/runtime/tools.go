//go:build tools

// The container runtime of a Kubernetes node, for `go build`: nothing here is compiled. Debian's containerd has no user namespaces.
package tools

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
	_ "github.com/opencontainers/runc"
)
