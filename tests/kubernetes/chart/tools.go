//go:build tools

// The program that renders the chart, for `go build`: nothing here is compiled.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
