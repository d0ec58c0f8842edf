package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"
)

// A chain is what a solo ledger left: its genesis file, key file and, from the first height on, every block.
type chain struct {
	Genesis json.RawMessage `json:"genesis"`
	KeyFile string          `json:"key_file"`
	Blocks  []chainBlock    `json:"blocks"`
}

type chainBlock struct {
	Header        json.RawMessage `json:"header"`
	Commit        json.RawMessage `json:"commit"`
	Validators    json.RawMessage `json:"validators"`
	Bundles       [][]byte        `json:"bundles"`
	ResultsBefore [][]byte        `json:"results_before"`
}

type readBlock struct {
	chainBlock
	header     *types.SignedHeader
	validators *types.ValidatorSet
}

func verifyChain(in io.Reader, out io.Writer) error {
	var given chain
	if err := json.NewDecoder(in).Decode(&given); err != nil {
		return err
	}
	genesis, err := types.GenesisDocFromJSON(given.Genesis)
	if err != nil {
		return fmt.Errorf("genesis: %w", err)
	}
	if given.KeyFile != "" {
		if err := checkKeyFile(given.KeyFile, genesis); err != nil {
			return err
		}
	}
	blocks := []readBlock{}
	for at, raw := range given.Blocks {
		block, err := read(raw)
		if err != nil {
			return fmt.Errorf("block %d of the input: %w", at, err)
		}
		blocks = append(blocks, block)
	}
	if err := checkBlocks(genesis, blocks); err != nil {
		return err
	}
	if err := checkLight(blocks); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d blocks verified\n", len(blocks))
	return err
}

func checkKeyFile(path string, genesis *types.GenesisDoc) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	key := privval.LoadFilePVEmptyState(path, "")
	if !bytes.Equal(key.Key.Address, genesis.Validators[0].Address) {
		return fmt.Errorf("key file: another validator than the genesis names")
	}
	return nil
}

func read(raw chainBlock) (readBlock, error) {
	block := readBlock{chainBlock: raw, header: &types.SignedHeader{Header: &types.Header{}, Commit: &types.Commit{}}}
	if err := cmtjson.Unmarshal(raw.Header, block.header.Header); err != nil {
		return block, fmt.Errorf("header: %w", err)
	}
	if err := cmtjson.Unmarshal(raw.Commit, block.header.Commit); err != nil {
		return block, fmt.Errorf("commit: %w", err)
	}
	var set types.ValidatorSet
	if err := cmtjson.Unmarshal(raw.Validators, &set); err != nil {
		return block, fmt.Errorf("validators: %w", err)
	}
	block.validators = types.NewValidatorSet(set.Validators)
	return block, nil
}

// checkBlocks makes each block again as CometBFT would and compares headers and block ids.
func checkBlocks(genesis *types.GenesisDoc, blocks []readBlock) error {
	lastCommit, lastBlockID := &types.Commit{}, types.BlockID{}
	for at, read := range blocks {
		header := read.header.Header
		if header.Height != genesis.InitialHeight+int64(at) || header.ChainID != genesis.ChainID {
			return fmt.Errorf("height %d: expected height %d of %s", header.Height, genesis.InitialHeight+int64(at), genesis.ChainID)
		}
		txs := []types.Tx{}
		for _, bundle := range read.Bundles {
			txs = append(txs, bundle)
		}
		results := []*abci.ExecTxResult{}
		for _, data := range read.ResultsBefore {
			results = append(results, &abci.ExecTxResult{Data: data})
		}
		block := types.MakeBlock(header.Height, txs, lastCommit, nil)
		hash := genesis.ValidatorHash()
		block.Populate(
			header.Version, genesis.ChainID, header.Time, lastBlockID, hash, hash,
			genesis.ConsensusParams.Hash(), header.AppHash, types.NewResults(results).Hash(), header.ProposerAddress,
		)
		if err := block.ValidateBasic(); err != nil {
			return fmt.Errorf("height %d: %w", header.Height, err)
		}
		parts, err := block.MakePartSet(types.BlockPartSizeBytes)
		if err != nil {
			return err
		}
		blockID := types.BlockID{Hash: block.Hash(), PartSetHeader: parts.Header()}
		if !bytes.Equal(block.Hash(), header.Hash()) || !blockID.Equals(read.header.Commit.BlockID) {
			return fmt.Errorf("height %d: CometBFT makes block %v, the commit has %v", header.Height, blockID, read.header.Commit.BlockID)
		}
		if err := read.validators.VerifyCommit(genesis.ChainID, blockID, header.Height, read.header.Commit); err != nil {
			return fmt.Errorf("height %d: %w", header.Height, err)
		}
		lastCommit, lastBlockID = read.header.Commit, blockID
	}
	return nil
}

// checkLight goes from each header to the next, and from the first to every later one.
func checkLight(blocks []readBlock) error {
	last := blocks[len(blocks)-1].header.Time
	now, period := last.Add(time.Minute), last.Sub(blocks[0].header.Time)+time.Hour
	for at := 1; at < len(blocks); at++ {
		before, block := blocks[at-1], blocks[at]
		err := light.VerifyAdjacent(before.header, block.header, block.validators, period, now, time.Second)
		if err != nil {
			return fmt.Errorf("adjacent, height %d: %w", block.header.Height, err)
		}
		if at > 1 {
			first := blocks[0]
			err := light.VerifyNonAdjacent(
				first.header, first.validators, block.header, block.validators, period, now, time.Second, light.DefaultTrustLevel,
			)
			if err != nil {
				return fmt.Errorf("non-adjacent, height %d: %w", block.header.Height, err)
			}
		}
	}
	return nil
}
