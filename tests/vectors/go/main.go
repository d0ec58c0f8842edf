// Command vectors is CometBFT's word on what feiqian.consensus encodes, hashes, signs and verifies.
//
//	vectors generate SEED COUNT   random structures with their hashes and sign bytes, as JSON
//	vectors judge SEED COUNT      random light-client steps, sound and forged, with CometBFT's verdicts
//	vectors verify < CHAIN        checks a solo chain with CometBFT's light client and block rules
//	vectors drive SOCKET COUNT    makes every call of ABCI, and COUNT of the pool's at once, and prints the answers
//	vectors messages              the fields of ABCI's messages
//	vectors signatures < LIST     whether CometBFT counts each Ed25519 signature
//	vectors update < UPDATE       changes a genesis' consensus parameters as an application asks
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strconv"

	cmtjson "github.com/cometbft/cometbft/libs/json"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string, in io.Reader, out io.Writer) error {
	if len(arguments) == 1 && arguments[0] == "verify" {
		return verifyChain(in, out)
	}
	if len(arguments) == 1 && arguments[0] == "messages" {
		return messages(out)
	}
	if len(arguments) == 1 && arguments[0] == "signatures" {
		return signatures(in, out)
	}
	if len(arguments) == 1 && arguments[0] == "update" {
		return update(in, out)
	}
	if len(arguments) != 3 {
		return fmt.Errorf("usage: vectors generate|judge SEED COUNT, vectors messages, vectors drive SOCKET COUNT, or vectors verify|update|signatures < INPUT")
	}
	if arguments[0] == "drive" {
		count, err := strconv.Atoi(arguments[2])
		if err != nil {
			return err
		}
		return drive(out, arguments[1], count)
	}
	seed, err := strconv.ParseInt(arguments[1], 10, 64)
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(arguments[2])
	if err != nil {
		return err
	}
	random := rand.New(rand.NewSource(seed))
	switch arguments[0] {
	case "generate":
		return write(out, generate(random, count))
	case "judge":
		return write(out, judge(random, count))
	}
	return fmt.Errorf("unknown command %q", arguments[0])
}

func write(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// comet returns a value in CometBFT's own JSON.
func comet(value any) json.RawMessage {
	data, err := cmtjson.Marshal(value)
	must(err)
	return data
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
