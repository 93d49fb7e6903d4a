// A kube-apiserver for tests: the same as cmd/kube-apiserver of k8s.io/kubernetes, in a module that can be built from
// the Go module proxy alone (see kube_apiserver_build.py).
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
