use super::*;

#[test]
#[ignore = "exploration"]
fn explore() {
    let all = rows(TABLES).unwrap();
    let a: Vec<&Row> = all.iter().filter(|r| r.table == "A").collect();
    let mut prior = a[0].case.as_ref().unwrap().platform.constants;
    let env = |n: &str, d: f64| std::env::var(n).map_or(d, |v| v.parse().unwrap());
    prior.matrix = env("E", prior.matrix); prior.half_size = env("C", prior.half_size); prior.memory = env("M", prior.memory);
    let fitted = if std::env::var("NOFIT").is_ok() { prior } else { fit_on(&a, &prior) };
    println!("{fitted:?}");
    let r = Report { residuals: all.iter().map(|row| { let mut f=fitted; if let Ok(c)=&row.case { f.half_size *= c.platform.peak/312e12; } report::residual(row, Some(&f), &[]) }).collect(), constants: Some(fitted), calibrated_on: vec![] };
    println!("{}", r.to_text());
    let mut loo = vec![];
    for i in 0..a.len() {
        let others: Vec<&Row> = a.iter().enumerate().filter(|(k, _)| *k != i).map(|(_, r)| *r).collect();
        let c = fit_on(&others, &prior);
        loo.push(report::residual(a[i], Some(&c), &[]).error_percent);
    }
    println!("LOO {:?} mean {:.2}", loo.iter().map(|x| (x*100.0).round()/100.0).collect::<Vec<_>>(), loo.iter().map(|x| x.abs()).sum::<f64>() / 10.0);
    if std::env::var("PARTS").is_ok() {
        for row in &all { let Ok(c) = &row.case else {continue}; let p=&c.plans[0]; let cut=even_cut(c.model.layers,p.virtual_stages());
            if let Ok(x)=predict(&c.model,p,&c.platform.with(fitted),&cut,Timing::Replay){ let t=x.step_s; println!("{:<18}{:?}",row.id,x.parts.named().iter().map(|(n,s)|format!("{}:{:.1}",&n[..6],100.0*s/t)).collect::<Vec<_>>().join(" ")); } }
    }
}

#[test]
#[ignore = "exploration"]
fn scratch() {
    let text = std::fs::read_to_string(std::env::var("TABLE").unwrap()).unwrap();
    println!("{}", validate(&text, &[]).unwrap().to_text());
    for row in rows(&text).unwrap() { let Ok(c) = &row.case else {continue}; let p=&c.plans[0]; let cut=even_cut(c.model.layers,p.virtual_stages());
        println!("{:?}", stage_memory(&c.model,p,&cut)[0]);
        if let Ok(x)=predict(&c.model,p,&c.platform,&cut,Timing::Replay){ let t=x.step_s; println!("{:<18}{:.3} {:?}",row.id,t,x.parts.named().iter().map(|(n,s)|format!("{}:{:.1}",&n[..6],100.0*s/t)).collect::<Vec<_>>().join(" ")); } }
}
