package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/cosmos/gogoproto/jsonpb"
	"github.com/cosmos/gogoproto/proto"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

// callVector is one call as CometBFT made it, and what it understood of the answer; both in protobuf's JSON.
type callVector struct {
	Call     string          `json:"call"`
	Request  json.RawMessage `json:"request"`
	Response json.RawMessage `json:"response"`
}

type driveVector struct {
	Echo      string       `json:"echo"`
	Calls     []callVector `json:"calls"`
	Pipelined [][]byte     `json:"pipelined"`
}

// drive makes every call of ABCI with CometBFT's own client, then many of the pool's at once.
func drive(out io.Writer, path string, pipelined int) error {
	client := abcicli.NewSocketClient("unix://"+path, true)
	if err := client.Start(); err != nil {
		return err
	}
	defer client.Stop() //nolint:errcheck
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	vector := driveVector{}
	echo, err := client.Echo(limited, "are you there? 在吗")
	if err != nil {
		return err
	}
	vector.Echo = echo.Message
	for _, request := range requests() {
		answered, err := call(limited, client, request)
		if err != nil {
			return err
		}
		vector.Calls = append(vector.Calls, answered)
	}
	if vector.Pipelined, err = pipeline(limited, client, pipelined); err != nil {
		return err
	}
	return write(out, vector)
}

func call(limited context.Context, client abcicli.Client, request proto.Message) (callVector, error) {
	name := strings.TrimPrefix(reflect.TypeOf(request).Elem().Name(), "Request")
	method := reflect.ValueOf(client).MethodByName(name)
	got := method.Call([]reflect.Value{reflect.ValueOf(limited), reflect.ValueOf(request)})
	if err, failed := got[1].Interface().(error); failed {
		return callVector{}, fmt.Errorf("%s: %w", name, err)
	}
	return callVector{name, protobufJSON(request), protobufJSON(got[0].Interface().(proto.Message))}, nil
}

func protobufJSON(message proto.Message) json.RawMessage {
	text, err := (&jsonpb.Marshaler{OrigName: true}).MarshalToString(message)
	must(err)
	return json.RawMessage(text)
}

// pipeline sends that many transactions before it waits for the first answer; returns the answers' data in order.
func pipeline(limited context.Context, client abcicli.Client, count int) ([][]byte, error) {
	var sent []*abcicli.ReqRes
	for at := 0; at < count; at++ {
		pending, err := client.CheckTxAsync(limited, &abci.RequestCheckTx{Tx: fmt.Appendf(nil, "transaction %d", at)})
		if err != nil {
			return nil, err
		}
		sent = append(sent, pending)
	}
	if err := client.Flush(limited); err != nil {
		return nil, err
	}
	var data [][]byte
	for _, pending := range sent {
		pending.Wait()
		data = append(data, pending.Response.GetCheckTx().GetData())
	}
	return data, client.Error()
}

// requests are one of each call with every field set, also those that feiqian does not read.
func requests() []proto.Message {
	at := time.Date(2026, 1, 1, 0, 0, 0, 123_456_789, time.UTC)
	hash := []byte(strings.Repeat("h", 32))
	address := []byte(strings.Repeat("a", 20))
	bundles := [][]byte{[]byte("one"), {}, []byte(strings.Repeat("large", 1<<20))}
	params := types.DefaultConsensusParams().ToProto()
	params.Abci.VoteExtensionsEnableHeight = 5
	params.Version.App = 3
	params.Authority.Authority = "governance"
	validator := abci.Validator{Address: address, Power: 7}
	commit := abci.CommitInfo{Round: 2, Votes: []abci.VoteInfo{{Validator: validator, BlockIdFlag: cmtproto.BlockIDFlagCommit}}}
	extended := abci.ExtendedCommitInfo{Round: 2, Votes: []abci.ExtendedVoteInfo{{
		Validator: validator, VoteExtension: []byte("x"), ExtensionSignature: []byte("y"), BlockIdFlag: cmtproto.BlockIDFlagNil,
	}}}
	misbehaviour := []abci.Misbehavior{
		{Type: abci.MisbehaviorType_DUPLICATE_VOTE, Validator: validator, Height: 8, Time: at, TotalVotingPower: 40},
		{Type: abci.MisbehaviorType_LIGHT_CLIENT_ATTACK, Validator: validator, Height: 9, Time: at, TotalVotingPower: 41},
	}
	key := ed25519.GenPrivKeyFromSecret([]byte("node")).PubKey().Bytes()
	snapshot := &abci.Snapshot{Height: 100, Format: 2, Chunks: 3, Hash: hash, Metadata: []byte("meta")}
	return []proto.Message{
		&abci.RequestInfo{Version: "0.40.0", BlockVersion: 11, P2PVersion: 9, AbciVersion: "2.3.0"},
		&abci.RequestInitChain{
			Time: at, ChainId: "sample-1", ConsensusParams: &params, InitialHeight: 10,
			Validators: []abci.ValidatorUpdate{abci.UpdateValidator(key, 10, "ed25519")}, AppStateBytes: []byte("{}"),
		},
		&abci.RequestQuery{Data: []byte("data"), Path: "/p2p/filter/id/00", Height: 4, Prove: true},
		&abci.RequestCheckTx{Tx: []byte("transaction"), Type: abci.CheckTxType_Recheck},
		&abci.RequestInsertTx{Tx: []byte("gossip")},
		&abci.RequestReapTxs{MaxBytes: 1 << 40, MaxGas: 6},
		&abci.RequestPrepareProposal{
			MaxTxBytes: 1 << 20, Txs: bundles, LocalLastCommit: extended, Misbehavior: misbehaviour, Height: 11, Time: at,
			NextValidatorsHash: hash, ProposerAddress: address,
		},
		&abci.RequestProcessProposal{
			Txs: bundles, ProposedLastCommit: commit, Misbehavior: misbehaviour, Hash: hash, Height: 11, Time: at,
			NextValidatorsHash: hash, ProposerAddress: address,
		},
		&abci.RequestExtendVote{
			Hash: hash, Height: 11, Time: at, Txs: bundles, ProposedLastCommit: commit, Misbehavior: misbehaviour,
			NextValidatorsHash: hash, ProposerAddress: address,
		},
		&abci.RequestVerifyVoteExtension{Hash: hash, ValidatorAddress: address, Height: 11, VoteExtension: []byte("x")},
		&abci.RequestFinalizeBlock{
			Txs: bundles, DecidedLastCommit: commit, Misbehavior: misbehaviour, Hash: hash, Height: 11, Time: at,
			NextValidatorsHash: hash, ProposerAddress: address,
		},
		&abci.RequestCommit{},
		&abci.RequestListSnapshots{},
		&abci.RequestOfferSnapshot{Snapshot: snapshot, AppHash: hash},
		&abci.RequestLoadSnapshotChunk{Height: 100, Format: 2, Chunk: 1},
		&abci.RequestApplySnapshotChunk{Index: 1, Chunk: []byte("chunk"), Sender: "peer"},
	}
}

type updateVector struct {
	Genesis json.RawMessage `json:"genesis"`
	Update  []byte          `json:"update"`
}

// update prints the consensus parameters of a genesis file after an application's update, and CometBFT's objection.
func update(in io.Reader, out io.Writer) error {
	var given updateVector
	if err := json.NewDecoder(in).Decode(&given); err != nil {
		return err
	}
	document, err := types.GenesisDocFromJSON(given.Genesis)
	if err != nil {
		return err
	}
	var wanted cmtproto.ConsensusParams
	if err := proto.Unmarshal(given.Update, &wanted); err != nil {
		return err
	}
	params := document.ConsensusParams.Update(&wanted)
	objection := ""
	if err := params.ValidateBasic(); err != nil {
		objection = err.Error()
	}
	return write(out, map[string]any{"params": comet(params), "hash": params.Hash(), "objection": objection})
}
