#!/usr/bin/env bash
# From nothing to the weights of nano: draw the world, train the codecs, store features, train four stages, export.
#
#   runs/nano.sh [--out DIR] [--device NAME] [--processes N] [--smoke] [-- OPTIONS OF uniavgen synth]
#
# Every piece goes on where it stopped, and finished pieces are skipped, so run it again after an interruption. What
# the world is drawn from (speech, heads, voices) is named behind `--`, see `uniavgen synth --help`. --smoke takes tiny
# numbers to see that the path is whole, in minutes; its weights are noise. --processes: how many train a stage together.
set -euo pipefail

out=out/nano device=auto processes=1 smoke=
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift 2 ;;
        --device) device=$2; shift 2 ;;
        --processes) processes=$2; shift 2 ;;
        --smoke) smoke=1; shift ;;
        --) shift; break ;;
        *) echo "runs/nano.sh: unknown option $1; options of uniavgen synth stand behind --" >&2; exit 2 ;;
    esac
done

# Clips to hear only, of the two splits, and of people who keep still; steps of the codecs; steps and other settings of the stages.
sound_clips=6000 train_clips=3000 still_clips=1500 val_clips=40 jobs=${JOBS:-2}
vae=() vocoder=() caption=() stage1=() stage2=() stage3=() stage4=()
if [ -n "$smoke" ]; then
    sound_clips=6 train_clips=4 still_clips=2 val_clips=2
    vae=(-s loop.steps=2) vocoder=(-s loop.steps=2 -s held_out=0) caption=(-s loop.steps=2 -s num_captions=32)
    stage1=(-s train.steps=2 -s train.compile=false -s train.batch_size=2 -s data.num_frames=17 -s "stage.tasks.reference_s=[0.3,0.6]")
    stage2=(-s train.steps=2 -s train.compile=false -s train.batch_size=2 -s data.num_frames=17 -s train.sample_every=0)
    stage3=("${stage2[@]}" -s train.steps=4)
    stage4=("${stage2[@]}")
fi
codec_device=$device
[ "$device" != auto ] || codec_device=$(python -c "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')")

say() { printf '\n== %s\n' "$*"; }

# A new face is worth more than a known one's next sentence.
world=(--jobs "$jobs" --people-per-voice 40)
say "world: $train_clips clips to train on, $still_clips of people who keep still, $sound_clips of sound alone, $val_clips held out"
uniavgen synth --clips "$train_clips" --out "$out/data/train" --seed 1 --split train "${world[@]}" "$@"
# Where only faces move, a model soon sees what a sound does to a mouth.
uniavgen synth --clips "$still_clips" --out "$out/data/still" --seed 4 --split train --movement 0 "${world[@]}" "$@"
# Few people a voice, so that everyone has other clips that can serve as reference voice.
uniavgen synth --clips "$sound_clips" --out "$out/data/sound" --seed 3 --split train --sound-only --jobs "$jobs" --people-per-voice 4 "$@"
uniavgen synth --clips "$val_clips" --out "$out/data/val" --seed 2 --split val "${world[@]}" "$@"

codec() { # FOLDER PRODUCT NAME OPTIONS: train a codec unless its product is there
    local folder=$1 made=$out/codecs/$1 product=$2 name=$3
    shift 3
    if [ ! -d "$made/$product" ]; then
        say "codec: $folder"
        uniavgen train-codec "$name" --out "$made" --device "$codec_device" "$@"
    fi
}
codec video-vae vae video-vae --data "$out/data/train" "${vae[@]}"
codec video-vae-mouths vae video-vae -c nano/video_vae_mouths --init "$out/codecs/video-vae" --data "$out/data/still" "${vae[@]}"
codec vocoder vocoder vocoder --data "$out/data/sound" "${vocoder[@]}"
codec caption tokenizer caption "${caption[@]}"
parts=$out/parts
mkdir -p "$parts"
for part in video-vae-mouths/vae vocoder/vocoder caption/text_encoder caption/tokenizer; do
    ln -sfn "../codecs/$part" "$parts/${part#*/}"
done

say "features"
uniavgen prepare --data "$out/data/sound" --out "$out/features/sound"
for split in train still val; do
    uniavgen prepare --data "$out/data/$split" --out "$out/features/$split" --parts "$parts" --device "$codec_device"
done

stage() { # NUMBER DATA OPTIONS: train a stage unless it is done
    local number=$1 run=$out/stage$1 data=$2
    shift 2
    if [ ! -d "$run/transformer" ]; then
        say "stage $number"
        # --init begins a run; a run that was stopped goes on with --resume.
        if [ -n "$(ls -d "$run"/checkpoints/step-* 2>/dev/null)" ]; then
            set -- --resume "$@"
        elif [ "$number" -gt 1 ]; then
            set -- --init "$out/stage$((number - 1))" "$@"
        fi
        local launch=()
        [ "$processes" = 1 ] || launch=(torchrun --standalone --nproc-per-node "$processes" --no-python)
        "${launch[@]}" uniavgen train -c "nano/stage$number" --data "$out/features/$data" --out "$run" --device "$device" "$@"
    fi
}
watch=(--watch "$out/data/val" --parts "$parts")
stage 1 sound "${stage1[@]}"
stage 2 train "${watch[@]}" "${stage2[@]}"
[ -z "$smoke" ] || processes=2 # once
stage 3 train "${watch[@]}" "${stage3[@]}"
[ -z "$smoke" ] || processes=1
stage 4 still "${watch[@]}" "${stage4[@]}"

say "model"
uniavgen export --transformer "$out/stage4" --parts "$parts" --out "$out/model" --dtype bfloat16 -s steps=6 -s spacing=trailing -s guidance=ma_cfg -s video_guidance=2 -s audio_guidance=3
