// A Vault core with its real Transit engine and AppRole auth, for tests only.
//
//	vault-server --data FOLDER --listen ADDRESS [--certificate FILE --key FILE]
//
// The first start makes the core in FOLDER. A later one unseals what is there, as after a restart. The line on stdout is
// {"root_token"}; from then on the server answers. Started with --sealed, it stays sealed.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

// The plugins that are built in. Vault asks for them by name when they are mounted.
type plugins map[string]logical.Factory

func (known plugins) Get(name string, _ consts.PluginType) (func() (interface{}, error), bool) {
	factory, found := known[name]
	return func() (interface{}, error) { return factory, nil }, found
}
func (known plugins) Contains(name string, _ consts.PluginType) bool {
	_, found := known[name]
	return found
}
func (plugins) Keys(consts.PluginType) []string { return nil }
func (plugins) DeprecationStatus(string, consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, true
}
func (plugins) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

// What the first start writes beside the core's storage.
type made struct {
	UnsealKey string `json:"unseal_key"`
	RootToken string `json:"root_token"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func makeCore(folder string) *vault.Core {
	logger := log.New(&log.LoggerOptions{Level: log.Error})
	storage, err := file.NewFileBackend(map[string]string{"path": filepath.Join(folder, "storage")}, logger)
	check(err)
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical: storage, Logger: logger, DisableMlock: true,
		BuiltinRegistry:    plugins{"transit": transit.Factory, "approle": approle.Factory},
		LogicalBackends:    map[string]logical.Factory{"transit": transit.Factory},
		CredentialBackends: map[string]logical.Factory{"approle": approle.Factory},
	})
	check(err)
	return core
}

// Makes the core's keys on the first start, and reads them again on later ones.
func initialize(core *vault.Core, folder string) made {
	var keys made
	path := filepath.Join(folder, "made.json")
	initialized, err := core.Initialized(context.Background())
	check(err)
	if initialized {
		text, err := os.ReadFile(path)
		check(err)
		check(json.Unmarshal(text, &keys))
		return keys
	}
	result, err := core.Initialize(context.Background(),
		&vault.InitParams{BarrierConfig: &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}})
	check(err)
	keys = made{hex.EncodeToString(result.SecretShares[0]), result.RootToken}
	text, err := json.Marshal(keys)
	check(err)
	check(os.WriteFile(path, text, 0o600))
	return keys
}

func main() {
	folder := flag.String("data", "", "folder of the server's storage")
	address := flag.String("listen", "", "address and port")
	certificate := flag.String("certificate", "", "PEM file; without it, plain HTTP")
	key := flag.String("key", "", "PEM file")
	sealed := flag.Bool("sealed", false, "do not unseal")
	flag.Parse()
	core := makeCore(*folder)
	keys := initialize(core, *folder)
	if !*sealed {
		share, err := hex.DecodeString(keys.UnsealKey)
		check(err)
		_, err = core.Unseal(share)
		check(err)
	}
	listener, err := net.Listen("tcp", *address)
	check(err)
	check(json.NewEncoder(os.Stdout).Encode(map[string]string{"root_token": keys.RootToken}))
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	if *certificate != "" {
		check(http.ServeTLS(listener, handler, *certificate, *key))
	}
	check(http.Serve(listener, handler))
}
