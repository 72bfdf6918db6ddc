#!/bin/bash
# Prepares a corpus in 64 shards: they filter, a merge joins them, they tokenise, a merge joins them.
#   bash slurm-prepare.sh my.yaml
set -eu
config=$1 shards=64

queue() { # name, the job to wait for, further options, command
    sbatch --parsable --job-name="$1" ${2:+--dependency=afterok:$2} --requeue --mem=4G \
        --output="%x-%a.log" "${@:3:$#-3}" --wrap="${!#}"
}

shard="mtrain prepare '$config' --shard \$SLURM_ARRAY_TASK_ID/$shards"
scanned=$(queue scan "" --array=1-$shards "$shard")
joined=$(queue join "$scanned" "mtrain merge '$config'")
tokenised=$(queue tokenise "$joined" --array=1-$shards "$shard")
queue merge "$tokenised" "mtrain merge '$config'"
