"""From raw video to training data: stages that score, records that keep the scores, rules that choose, exact cuts."""
