package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"

	"github.com/cosmos/gogoproto/proto"
	"github.com/cosmos/gogoproto/protoc-gen-gogo/descriptor"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtcrypto "github.com/cometbft/cometbft/proto/tendermint/crypto"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
)

type described interface {
	Descriptor() ([]byte, []int)
}

type fieldVector struct {
	Number     int32  `json:"number"`
	Kind       int32  `json:"kind"`
	IsRepeated bool   `json:"is_repeated"`
	Type       string `json:"type"`
}

type schemaVector struct {
	Messages map[string]map[string]fieldVector `json:"messages"`
	Enums    map[string]map[string]int32       `json:"enums"`
}

// messages prints what CometBFT's own generated code says of the messages of ABCI: numbers and types of all fields.
func messages(out io.Writer) error {
	all := schemaVector{map[string]map[string]fieldVector{}, map[string]map[string]int32{}}
	// The file of ABCI comes last: of two messages with one name it is the one that counts.
	for _, message := range []described{&cmtproto.ConsensusParams{}, &cmtcrypto.PublicKey{}, &abci.Request{}} {
		compressed, _ := message.Descriptor()
		reader, err := gzip.NewReader(bytes.NewReader(compressed))
		if err != nil {
			return err
		}
		data, err := io.ReadAll(reader)
		if err != nil {
			return err
		}
		var file descriptor.FileDescriptorProto
		if err := proto.Unmarshal(data, &file); err != nil {
			return err
		}
		all.add(&file)
	}
	return write(out, all)
}

func (all schemaVector) add(file *descriptor.FileDescriptorProto) {
	for _, message := range file.MessageType {
		fields := map[string]fieldVector{}
		for _, field := range message.Field {
			path := strings.Split(field.GetTypeName(), ".")
			fields[field.GetName()] = fieldVector{
				Number:     field.GetNumber(),
				Kind:       int32(field.GetType()),
				IsRepeated: field.GetLabel() == descriptor.FieldDescriptorProto_LABEL_REPEATED,
				Type:       strings.TrimPrefix(strings.ToLower(path[len(path)-1]), "abci"),
			}
		}
		all.Messages[message.GetName()] = fields
		all.addEnums(message.GetName()+".", message.EnumType)
	}
	all.addEnums("", file.EnumType)
}

func (all schemaVector) addEnums(prefix string, enums []*descriptor.EnumDescriptorProto) {
	for _, enum := range enums {
		values := map[string]int32{}
		for _, value := range enum.Value {
			values[value.GetName()] = value.GetNumber()
		}
		all.Enums[prefix+enum.GetName()] = values
	}
}
