package main

import (
	"encoding/json"
	"io"

	"github.com/cometbft/cometbft/crypto/ed25519"
)

// signed is a signature that may or may not hold; all in base64.
type signed struct {
	Key       []byte `json:"key"`
	Message   []byte `json:"message"`
	Signature []byte `json:"signature"`
}

// signatures prints of each whether CometBFT counts it.
func signatures(in io.Reader, out io.Writer) error {
	var given []signed
	if err := json.NewDecoder(in).Decode(&given); err != nil {
		return err
	}
	verdicts := []bool{}
	for _, each := range given {
		verdicts = append(verdicts, ed25519.PubKey(each.Key).VerifySignature(each.Message, each.Signature))
	}
	return write(out, verdicts)
}
